"""Weight perturbation against its definition, step by step; the weights themselves never move by it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import make_classifier, make_digits
from torch import Tensor, nn

from robust_transfer.classifier import Classifier
from robust_transfer.config import build
from robust_transfer.data import Task, to_pixels
from robust_transfer.errors import ConfigError
from robust_transfer.pretraining import PRETRAINING
from robust_transfer.pretraining.objective import AdversarialObjective
from robust_transfer.pretraining.trades import TradesObjective
from robust_transfer.pretraining.weight_perturbation import Crafting
from robust_transfer.run import Run
from robust_transfer.threat import Threat
from robust_transfer.training import Batch, TrainingSettings, batch_order, fit

RUN = Run(precision="float32", quiet=True, device="cpu")
THREAT = Threat.parse("linf:8/255")
GAMMA = 0.05


@pytest.fixture(scope="module")
def batch() -> Batch:
    split, some = make_digits(train=40).train, torch.arange(16)
    return Batch(to_pixels(split.fetch(some)), split.labels[some], split.ids[some], some, 5)


def objective_of(classifier: Classifier, run: Run = RUN, awp: float = GAMMA) -> AdversarialObjective:
    return AdversarialObjective(classifier, THREAT, run, steps=1, step=1.0, awp=awp)


def perturbed(classifier: Classifier, loss: Any) -> Classifier:
    """Spelt out: a copy whose layers' weights have moved up ``loss`` by GAMMA times their length."""
    proxy, moved = classifier.copy(), classifier.copy()
    loss(proxy).backward()
    with torch.no_grad():
        for module, other in zip(proxy.modules(), moved.modules(), strict=True):
            if isinstance(module, nn.Conv2d | nn.Linear):
                assert isinstance(other, nn.Conv2d | nn.Linear)
                assert module.weight.grad is not None
                w, g = module.weight, module.weight.grad
                other.weight += GAMMA * w.pow(2).sum().sqrt() * g / g.pow(2).sum().sqrt()
    return moved


def close(found: nn.Module, wanted: nn.Module) -> None:
    for (name, a), b in zip(found.named_parameters(), wanted.parameters(), strict=True):
        assert a.grad is not None, name
        assert b.grad is not None, name
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-5, msg=name)


def test_the_gradient_is_that_at_the_perturbed_weights(batch: Batch) -> None:
    classifier = make_classifier().train()
    objective = objective_of(classifier)
    crafted = objective.craft(batch)

    def loss(network: Classifier) -> Tensor:
        return F.cross_entropy(network(crafted), batch.labels)

    moved = perturbed(classifier, loss)
    wanted = loss(moved)
    wanted.backward()
    before = loss(classifier.copy())
    out = objective(batch)
    out["loss"].backward()
    torch.testing.assert_close(out["loss"], wanted, rtol=1e-4, atol=1e-5)
    assert float(wanted.detach()) > float(before.detach()) + 0.05, "the step raises the loss"
    close(classifier, moved)
    for (name, found), other in zip(classifier.named_buffers(), moved.buffers(), strict=True):
        torch.testing.assert_close(found, other, msg=f"{name}: one pass, at the perturbed weights, moves statistics")


def test_the_weights_are_bit_for_bit_what_they_were(batch: Batch) -> None:
    classifier = make_classifier().train()
    before = {name: (p, p.detach().clone()) for name, p in classifier.named_parameters()}
    objective_of(classifier)(batch)["loss"].backward()
    for name, p in classifier.named_parameters():
        same, values = before[name]
        assert p is same, name
        assert torch.equal(p, values), name
        assert p.grad is not None
        assert p.grad.abs().sum() > 0, name


def test_the_loss_that_it_climbs_is_the_methods_own(batch: Batch) -> None:
    classifier = make_classifier().train()
    objective = TradesObjective(classifier, THREAT, RUN, beta=6, steps=1, step=0.5, awp=GAMMA)
    crafted = objective.craft(batch)

    def loss(network: Classifier) -> Tensor:
        clean, attacked = network(batch.images), network(crafted)
        p, q = clean.softmax(1), attacked.softmax(1)
        divergence: Tensor = (p * (p.log() - q.log())).sum(1).mean()
        return F.cross_entropy(clean, batch.labels) + 6 * divergence

    moved = perturbed(classifier, loss)
    loss(moved).backward()
    objective(batch)["loss"].backward()
    close(classifier, moved)


def on_clean_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Crafting is tested elsewhere: signs of gradients that are next to nothing would part two ways of training."""
    monkeypatch.setattr(AdversarialObjective, "craft", lambda self, batch: batch.images)


def test_training_is_the_loop_spelt_out(digits_task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    on_clean_images(monkeypatch)
    objective, split = objective_of(make_classifier()), digits_task.train.subset(torch.arange(100))
    plain = objective.classifier.copy()
    settings = TrainingSettings(epochs=2, batch_size=50, learning_rate=0.05, augment=False, schedule="constant")
    result = fit(objective, split, settings, RUN)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    for step in range(4):
        at = batch_order(0, step // 2, 100)[step % 2 * 50 :][:50]
        x, y = to_pixels(split.fetch(at)), split.labels[at]
        moved = perturbed(plain.train(), lambda network: F.cross_entropy(network(x), y))  # noqa: B023
        F.cross_entropy(moved(x), y).backward()
        for p, other in zip(plain.parameters(), moved.parameters(), strict=True):
            p.grad = other.grad
        for mine, theirs in zip(plain.buffers(), moved.buffers(), strict=True):
            mine.copy_(theirs)
        optimizer.step()
    first, found = make_classifier().state_dict(), result.classifier.state_dict()
    for name, value in plain.state_dict().items():
        gap, path = (found[name] - value).float().norm(), (value - first[name]).float().norm()
        assert gap <= 1e-3 * path, name
    assert result.passes == 4 * 50 * (2 * 3 + 2)


def test_bfloat16_gives_nearly_the_same_gradient(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    on_clean_images(monkeypatch)
    gradients = []
    for run in (RUN, Run(precision="bfloat16", quiet=True, device="cpu")):
        classifier = make_classifier().train()
        with run.autocast():
            out = objective_of(classifier, run, awp=0.005)(batch)
        out["loss"].backward()
        gradients.append(torch.cat([p.grad.flatten() for p in classifier.parameters() if p.grad is not None]))
    exact, low = gradients
    assert low.shape == exact.shape
    assert F.cosine_similarity(exact, low, dim=0) > 0.85


def test_what_is_frozen_is_not_perturbed(batch: Batch) -> None:
    classifier = make_classifier().train()
    classifier.freeze([name for name in classifier.state_dict() if name.startswith("head.")])
    moved = objective_of(classifier)._perturbation(batch, batch.images)
    layers = {f"{path}.weight" for path, m in classifier.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    assert set(moved) == layers - {"head.weight"}


@pytest.mark.parametrize("name", PRETRAINING.names())
def test_it_is_for_methods_that_craft_first(name: str) -> None:
    cls = PRETRAINING.get(name)
    if issubclass(cls, Crafting):
        assert cls().awp == 0
        assert cls(awp=0.01).passes_per_image > cls().passes_per_image
        with pytest.raises(ConfigError, match=f"{name} needs an awp that is not negative"):
            cls(awp=-0.1)
    else:
        assert name in ("natural", "noise", "free")
        with pytest.raises(ConfigError, match=r"unknown setting .* 'awp'"):
            build(cls, {"awp": 0.01}, "method")
