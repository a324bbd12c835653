"""TRADES against its formula: what is crafted, from where, and what is minimised."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import make_classifier, make_digits, same_state
from torch import Tensor

from robust_transfer.classifier import Classifier
from robust_transfer.data import to_pixels
from robust_transfer.errors import ConfigError
from robust_transfer.pretraining import Trades
from robust_transfer.pretraining.trades import TradesObjective
from robust_transfer.randomness import Address, normal
from robust_transfer.run import Run
from robust_transfer.threat import Threat
from robust_transfer.training import Batch

RUN = Run(precision="float32", quiet=True, device="cpu")
THREAT = Threat.parse("linf:8/255")


@pytest.fixture(scope="module")
def batch() -> Batch:
    split, some = make_digits(train=40).train, torch.arange(16)
    return Batch(to_pixels(split.fetch(some)), split.labels[some], split.ids[some], some, 5)


def divergence(attacked: Tensor, clean: Tensor) -> Tensor:
    """``KL(p_clean || p_attacked)`` per example, spelt out."""
    p, q = clean.softmax(1), attacked.softmax(1)
    return (p * (p.log() - q.log())).sum(1)


def crafted(classifier: Classifier, batch: Batch, steps: int) -> Tensor:
    """Spelt out: from 0.001 of noise, signed steps up the divergence, in evaluation mode."""
    plain, x, eps = classifier.copy().eval(), batch.images, THREAT.eps
    clean = plain(x).detach()
    current = (x + 0.001 * normal(Address(0, "trades", step=5), batch.ids, (3, 8, 8))).clamp(0, 1)
    for _ in range(steps):
        current = current.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(divergence(plain(current), clean).sum(), current)
        current = (x + (current + 0.25 * eps * gradient.sign() - x).clamp(-eps, eps)).clamp(0, 1)
    return current.detach()


def test_examples_are_crafted_by_the_formula(batch: Batch) -> None:
    classifier = make_classifier().train()
    before = {k: v.clone() for k, v in classifier.state_dict().items()}
    found = TradesObjective(classifier, THREAT, RUN, beta=6, steps=3, step=0.25).craft(batch)
    wanted = crafted(classifier, batch, 3)
    differs = ((found - wanted).abs() > 1e-6).float().mean()
    assert differs < 0.01  # signs of gradients that are next to nothing
    assert float((found - batch.images).abs().max()) <= THREAT.eps + 1e-6
    assert classifier.training
    assert all(torch.equal(v, before[k]) for k, v in classifier.state_dict().items()), "no statistic moves"
    assert all(p.requires_grad and p.grad is None for p in classifier.parameters())


def test_crafting_raises_the_divergence(batch: Batch) -> None:
    classifier = make_classifier().eval()
    objective = TradesObjective(classifier, THREAT, RUN, beta=6, steps=5, step=0.25)
    clean = classifier(batch.images).detach()
    random = THREAT.random_start(batch.images, batch.ids, seed=0, purpose="test")
    found, chance = (divergence(classifier(x).detach(), clean) for x in (objective.craft(batch), random))
    assert (found > chance).all()


def test_in_bfloat16_the_first_step_is_still_taken(batch: Batch) -> None:
    """The start is so near the image that bfloat16 sees no difference, and the divergence of nothing has no slope."""
    classifier = make_classifier().eval()
    low = Run(precision="bfloat16", quiet=True, device="cpu")
    steps = [TradesObjective(classifier, THREAT, run, beta=6, steps=1, step=0.25).craft(batch) for run in (low, RUN)]
    assert torch.equal(steps[0], steps[1])


def test_the_loss_is_the_formula(batch: Batch) -> None:
    classifier = make_classifier().train()
    objective = TradesObjective(classifier, THREAT, RUN, beta=4, steps=2, step=0.25)
    attacked, plain = objective.craft(batch), classifier.copy().train()
    out = objective(batch)
    clean, moved = plain(batch.images), plain(attacked)  # a pass each, in this order: statistics move twice
    wanted = F.cross_entropy(clean, batch.labels) + 4 * divergence(moved, clean).mean()
    torch.testing.assert_close(out["loss"], wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(out["logits"], clean)
    assert same_state(plain, classifier)
    assert objective.passes_per_image == 6 + 1 + 2 * 2


def test_gradients_flow_through_both_arguments(batch: Batch) -> None:
    classifier = make_classifier().eval()
    objective = TradesObjective(classifier, THREAT, RUN, beta=1, steps=1, step=0.25)
    attacked, plain = objective.craft(batch), classifier.copy().eval()
    objective(batch)["divergence"].backward()
    divergence(plain(attacked), plain(batch.images)).mean().backward()
    for found, wanted in zip(classifier.parameters(), plain.parameters(), strict=True):
        assert found.grad is not None
        assert wanted.grad is not None
        torch.testing.assert_close(found.grad, wanted.grad, rtol=1e-3, atol=1e-6)


def test_settings_that_make_no_sense() -> None:
    wrong: tuple[dict[str, Any], ...] = ({"steps": 0}, {"step": 0}, {"beta": -1})
    for settings in wrong:
        with pytest.raises(ConfigError, match="trades needs at least one step"):
            Trades(**settings)
