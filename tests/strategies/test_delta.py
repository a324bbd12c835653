"""DELTA: its loss and weights against plain PyTorch, and the pull of its strength."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import QUIET, everything, make_source

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.data import Task, to_pixels
from robust_transfer.errors import ConfigError
from robust_transfer.strategies import Delta, transfer
from robust_transfer.strategies.delta import DeltaObjective, weigh


def test_the_loss_is_a_plain_one(source: Checkpoint, task: Task) -> None:
    ours, plain, teacher = (source.classifier.with_head(10) for _ in range(3))
    with torch.no_grad():
        for part in (ours, plain):
            for p in part.body.parameters():
                p.mul_(1.05)
    width = {"units.2": 32, "units.5": 64}
    weights = {name: torch.rand(c, generator=torch.Generator().manual_seed(c)) for name, c in width.items()}
    sizes = {"units.2": 3.0, "units.5": 7.0}
    batch = everything(task)
    objective = DeltaObjective(ours, teacher.copy(), weights, sizes, strength=0.7)
    objective.classifier.hold_batch_norm = True
    out = objective.train()(batch)

    def maps(classifier: Any) -> dict[str, torch.Tensor]:
        h, found = classifier.body.conv1(classifier.normalise(batch.images)), {}
        for number, unit in enumerate(classifier.body.units):
            h = unit(h)
            found[f"units.{number}"] = h
        return found

    plain.eval()
    mine, theirs = maps(plain), maps(teacher.eval())
    terms = [
        ((mine[name] - theirs[name]).pow(2).sum((2, 3)) * weights[name]).sum(1).mean() / sizes[name] for name in width
    ]
    wanted = F.cross_entropy(plain(batch.images), batch.labels) + 0.7 * (terms[0] + terms[1]) / 2
    torch.testing.assert_close(out["loss"], wanted)
    out["loss"].backward()
    wanted.backward()
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-6)
    assert all(p.grad is None for p in objective.teacher.parameters())


@pytest.mark.parametrize("heavy", [False, True])
def test_a_channels_weight_is_what_the_loss_loses_with_it(source: Checkpoint, task: Task, heavy: bool) -> None:
    """A straight line through each channel's scale: the slope at 1, by finite differences in float64."""
    classifier = source.classifier.with_head(10).eval()
    few = dataclasses.replace(task, train=task.train.subset(torch.arange(20)))
    counts = torch.where(torch.arange(20) < 2, 5.0, 0.1).double() if heavy else torch.ones(20).double()
    if heavy:
        few = dataclasses.replace(few, train=few.train.weighted(counts))
    weights, sizes, cost = weigh(classifier, ["units.5"], few, QUIET, weighted=True)
    assert cost.passes == 60
    x, y = to_pixels(few.train.images()).double(), few.train.labels
    exact: Any = classifier.copy().double().eval()
    h = exact.body.units(exact.body.conv1(exact.normalise(x)))

    def loss(maps: torch.Tensor) -> torch.Tensor:
        z = exact.body.forward_head(exact.body.last(maps), pre_logits=True)
        return F.cross_entropy(F.linear(z, exact.head.weight, exact.head.bias), y, reduction="none")

    slopes = list[torch.Tensor]()
    for channel in range(h.shape[1]):
        up, down = (h * (1 + sign * 1e-4 * (torch.arange(h.shape[1]) == channel)[:, None, None]) for sign in (1, -1))
        slopes.append((counts * ((loss(up) - loss(down)) / 2e-4).abs()).sum() / counts.sum())
    wanted = torch.stack(slopes)
    torch.testing.assert_close(weights["units.5"].double(), wanted / wanted.mean(), rtol=1e-2, atol=1e-3)
    size = (counts * (h.pow(2).sum((2, 3)) * weights["units.5"]).sum(1)).sum() / counts.sum()
    assert sizes["units.5"] == pytest.approx(float(size.detach()), rel=1e-3)
    even, _, _ = weigh(classifier, ["units.5"], few, QUIET, weighted=False)
    assert torch.equal(even["units.5"], torch.ones(h.shape[1]))


def test_the_stronger_the_pull_the_nearer_to_the_sources_maps(task: Task) -> None:
    source = make_source()
    made: dict[str, object] = {"epochs": 6, "batch_size": 16, "head": "new", "l2": 0.1, "depths": 2}
    a, b = (transfer(source, task, Delta.from_settings({**made, "strength": s}), run=QUIET) for s in (0, 30))
    assert b.card.metrics["depths"] == ["units.4", "units.5"]
    x = to_pixels(task.train.images())
    with torch.no_grad():
        z0, za, zb = (c.classifier.features(x) for c in (source, a, b))
    assert float((zb - z0).norm()) < 0.8 * float((za - z0).norm())


def test_negative_numbers_are_refused() -> None:
    for wrong in ({"strength": -1.0}, {"depths": -1}):
        with pytest.raises(ConfigError, match="negative"):
            Delta.from_settings(wrong)
