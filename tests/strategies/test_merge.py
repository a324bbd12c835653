"""Merging by stability masks: against a step-by-step reference in plain PyTorch, and its limits."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from helpers import QUIET, make_source

from robust_transfer.attacks import PGD
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.data import Task, to_pixels
from robust_transfer.engine import Engine
from robust_transfer.errors import ConfigError
from robust_transfer.strategies import Merge, transfer
from robust_transfer.strategies.interpolation import between
from robust_transfer.strategies.merge import gradient_sizes, merged
from robust_transfer.threat import Threat

THREAT = Threat.parse("linf:8/255")


@pytest.fixture(scope="module")
def ends() -> tuple[Classifier, Classifier]:
    robust = make_source().classifier.with_head(10, seed=1).eval()
    tuned = robust.copy().eval()
    with torch.no_grad():
        for p in tuned.parameters():
            p.add_(0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    return robust, tuned


@pytest.mark.parametrize("weighted", [False, True])
def test_every_weight_is_the_masked_mean(
    ends: tuple[Classifier, Classifier], task: Task, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robust_transfer.strategies.attacked_val.BATCH", 16)
    robust, tuned = ends
    if weighted:
        task = heavy(task)
    under_attack, clean, cost = gradient_sizes(robust, tuned, task, THREAT, QUIET, 40)
    found = merged(robust, tuned, under_attack, clean, 0.3, 4.0)
    sample = task.val.sample(40, seed=0, purpose="merge")
    [(images, labels, ids)] = sample.batches(100)
    x = to_pixels(images)
    with torch.no_grad():
        right = int((robust(x).argmax(1) == labels).sum())
    assert 0 < right < 40
    assert cost.adversarial_examples == right, "only images that are right when clean are attacked"
    weights = sample.weights if sample.weights is not None else torch.ones(40)
    assert (len(weights.unique()) > 2) == weighted
    attacked = PGD(steps=10)(robust, x, labels, ids, THREAT, seed=0, engine=Engine()).adversarial
    assert not torch.equal(attacked, x)
    slopes = []
    for network, given in ((robust, attacked), (tuned, x)):
        totals: dict[str, torch.Tensor] = {}
        for first in (0, 16, 32):  # means over batches of 16, 16 and 8
            rows, plain = slice(first, first + 16), network.copy().eval()
            each = F.cross_entropy(plain(given[rows]), labels[rows], reduction="none")
            (weights[rows].float() * each).mean().backward()
            for n, p in plain.named_parameters():
                assert p.grad is not None
                totals[n] = totals.get(n, 0) + p.grad.abs()
        slopes.append({n: total / total.max() for n, total in totals.items()})
    for name, value in found.named_parameters():
        for_natural, for_robust = (1 - slopes[0][name]).pow(4), (1 - slopes[1][name]).pow(4)
        a, b = robust.get_parameter(name), tuned.get_parameter(name)
        wanted = (0.7 * for_robust * a + 0.3 * for_natural * b) / (0.7 * for_robust + 0.3 * for_natural)
        inside = (0.7 * for_robust + 0.3 * for_natural) > 1e-6
        torch.testing.assert_close(value[inside], wanted[inside], rtol=1e-3, atol=1e-6)


def heavy(task: Task) -> Task:
    """Images of val with weights of 0 to 4."""
    weights = torch.arange(len(task.val)).double() % 5
    return dataclasses.replace(task, val=task.val.weighted(weights))


def test_without_masks_it_is_interpolation(ends: tuple[Classifier, Classifier], task: Task) -> None:
    robust, tuned = ends
    under_attack, clean, _ = gradient_sizes(robust, tuned, task, THREAT, QUIET, 20)
    plain, found = between(robust, tuned, 0.3), merged(robust, tuned, under_attack, clean, 0.3, 0.0)
    for name, value in found.state_dict().items():
        torch.testing.assert_close(value, plain.state_dict()[name])


def test_where_the_robust_loss_is_steep_the_robust_weight_stays(ends: tuple[Classifier, Classifier]) -> None:
    robust, tuned = ends
    flat = {n: torch.zeros_like(p) for n, p in robust.named_parameters()}
    steep = {n: torch.ones_like(p) for n, p in robust.named_parameters()}
    stays = merged(robust, tuned, steep, flat, 0.5, 8.0)
    assert all(torch.equal(p, robust.get_parameter(name)) for name, p in stays.named_parameters())
    moved = merged(robust, tuned, flat, steep, 0.5, 8.0)
    for name, p in moved.named_parameters():
        torch.testing.assert_close(p, tuned.get_parameter(name))
    both = merged(robust, tuned, steep, steep, 0.5, 8.0)  # 0 / 0: the plain share
    for name, p in both.named_parameters():
        torch.testing.assert_close(p, between(robust, tuned, 0.5).get_parameter(name))


def test_gradients_leave_no_trace(ends: tuple[Classifier, Classifier], task: Task) -> None:
    robust, tuned = (end.copy().eval() for end in ends)
    robust.freeze()
    before = [p.requires_grad for p in robust.parameters()]
    gradient_sizes(robust, tuned, task, THREAT, QUIET, 10)
    assert [p.requires_grad for p in robust.parameters()] == before
    assert all(p.grad is None for end in (robust, tuned) for p in end.parameters())


def test_all_points_are_measured(source: Checkpoint, task: Task) -> None:
    strategy = Merge.from_settings({**Merge.quick, "shares": (0.3, 0.6), "kappas": (0.0, 2.0)})
    card = transfer(source, task, strategy, run=QUIET).card
    kinds = [(p["kind"], p.get("kappa"), p.get("share")) for p in card.metrics["front"]]
    assert kinds == [
        ("linear-probe", None, None), ("fine-tune", None, None),
        ("merge", 0.0, 0.3), ("merge", 0.0, 0.6), ("merge", 2.0, 0.3), ("merge", 2.0, 0.6),
    ]  # fmt: skip
    assert len(kinds) == strategy.points()


@pytest.mark.parametrize("wrong", [{"shares": ()}, {"shares": (1.0,)}, {"kappas": (-1.0,)}, {"examples": 0}])
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        dataclasses.replace(Merge(), **wrong)  # type: ignore[arg-type]
