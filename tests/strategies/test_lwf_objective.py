"""LwF at several depths, along directions, with a schedule: every step against plain PyTorch, and resuming."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from helpers import QUIET, everything, log_of, make_source, same_state

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.data import Task, to_pixels
from robust_transfer.errors import ConfigError
from robust_transfer.strategies import LinearProbe, LwF, features_of, transfer
from robust_transfer.strategies.lwf_objective import LwFObjective
from robust_transfer.strategies.pooled import pooled_of
from robust_transfer.strategies.strength_schedule import strength_share
from robust_transfer.training import Batch, batch_order

DEPTHS = ("units.3", "units.4")


def plain_pass(classifier: Any, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Features and means of the two units before the last one, module by module."""
    h, means = classifier.body.conv1(classifier.normalise(x)), {}
    for number, unit in enumerate(classifier.body.units):
        h = unit(h)
        means[f"units.{number}"] = h.mean((2, 3))
    return classifier.body.forward_head(classifier.body.last(h), pre_logits=True), {k: means[k] for k in DEPTHS}


@pytest.mark.parametrize("teacher", ["cached", "live"])
def test_every_step_is_a_plain_loops(teacher: str, source: Checkpoint, task: Task) -> None:
    """Two inner depths, weighed directions and a falling strength, six steps of SGD with momentum."""
    generator = torch.Generator().manual_seed(3)
    d = source.classifier.num_features
    raw = torch.randn(d, d, generator=generator) / d**0.5
    root = raw @ raw.T + 0.3 * torch.eye(d)
    m, inner = root @ root, {"units.3": 0.4, "units.4": 0.7}
    head = LinearProbe(l2=0.1).solve(source, task, QUIET).chosen.head()
    ours, plain = source.classifier.with_layers(head), source.classifier.with_layers(head)
    known: dict[str, Any] = {"teacher": source.classifier.copy()}
    if teacher == "cached":
        rows = pooled_of(source.classifier, task.train, QUIET, DEPTHS)
        known = {"features": features_of(source.classifier, task.train, QUIET), "pooled": rows}
    share = partial(strength_share, "linear-down", 0.2)
    objective = LwFObjective(ours, weight=0.02, distance="squared-l2", root=root, inner=inner, share=share, **known)
    objective.total_steps = 6
    optimizers = [torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9) for model in (ours, plain)]
    x, y = to_pixels(task.train.images()), task.train.labels
    with torch.no_grad():
        z0, means0 = plain_pass(source.classifier, x)
    for step in range(6):
        chosen = batch_order(0, 0, 128)[step * 20 : step * 20 + 20]
        out = objective(Batch(x[chosen], y[chosen], chosen, chosen, step))
        z, means = plain_pass(plain, x[chosen])
        moved = z - z0[chosen]
        penalty = 0.02 * torch.einsum("bi,ij,bj->b", moved, m, moved).mean()
        for name, weight in inner.items():
            penalty = penalty + weight * (means[name] - means0[name][chosen]).pow(2).sum(1).mean()
        loss = F.cross_entropy(plain.head(z), y[chosen]) + (1 - 0.8 * step / 5) * penalty
        torch.testing.assert_close(out["loss"], loss, rtol=1e-5, atol=1e-6)
        for optimizer, value in zip(optimizers, (out["loss"], loss), strict=True):
            optimizer.zero_grad()
            value.backward()
        for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-5)
        for optimizer in optimizers:
            optimizer.step()


def test_weights_of_all_depths_are_relative_to_the_source(source: Checkpoint, task: Task) -> None:
    """A strength s on k depths: moving all of them by their own length costs s nats, whatever k."""
    result = transfer(source, task, LwF(epochs=0.01, head="new", strength=2.0, depths=3), run=QUIET).card.metrics
    with torch.no_grad():
        z0, means0 = plain_pass(source.classifier, to_pixels(task.train.images()))
    sizes = {name: float(rows.norm(dim=1).mean()) for name, rows in means0.items()}
    assert result["source_block_sizes"] == pytest.approx(sizes, rel=1e-4)
    assert result["feature_weight"] == pytest.approx(2.0 / 3 / float(z0.norm(dim=1).mean()), rel=1e-4)
    made = objective_of(LwF(strength=2.0, depths=3, head="new"), source, task)
    assert made.inner == pytest.approx({name: 2.0 / 3 / size for name, size in sizes.items()}, rel=1e-4)
    twice = made.weight * z0.norm(dim=1).mean() + sum(made.inner[n] * means0[n].norm(dim=1).mean() for n in DEPTHS)
    assert float(twice) == pytest.approx(2.0, rel=1e-4)


def objective_of(strategy: LwF, source: Checkpoint, task: Task) -> LwFObjective:
    made = strategy.objective(source, strategy.start(source, task, QUIET), task, QUIET).objective
    assert isinstance(made, LwFObjective)
    return made


def test_nothing_has_drifted_at_the_start_at_any_depth(source: Checkpoint, task: Task) -> None:
    for teacher in ("cached", "live"):
        strategy = LwF.from_settings({"teacher": teacher, "depths": 0, "head": "new"})
        objective = objective_of(strategy, source, task)
        out = objective.eval()(everything(task))
        assert (float(out["drift"].detach()), float(out["inner_penalty"].detach())) == (0.0, 0.0)


def test_inner_blocks_are_held_nearer(source: Checkpoint, task: Task) -> None:
    settings: dict[str, Any] = {"epochs": 4, "head": "new", "batch_size": 32, "strength": 3.0, "learning_rate": 3e-3}
    settings["distance"] = "squared-l2"
    x, moved = to_pixels(task.train.images()), []
    for depths in (1, 3):
        result = transfer(source, task, LwF(**settings, depths=depths), run=QUIET)
        with torch.no_grad():
            after, before = (plain_pass(model.classifier, x)[1]["units.3"] for model in (result, source))
        moved.append(float((after - before).norm()))
    assert moved[1] < 0.8 * moved[0]


@pytest.mark.parametrize("schedule", ["linear-up", "linear-down", "cosine"])
def test_the_share_follows_the_steps_of_the_whole_training(
    schedule: Literal["linear-up", "linear-down", "cosine"], source: Checkpoint, task: Task, tmp_path: Path
) -> None:
    run = dataclasses.replace(QUIET, out=tmp_path / "run")
    strategy = LwF(epochs=2, head="new", batch_size=32, strength_schedule=schedule, strength_least=0.1)
    transfer(source, task, strategy, run=run)
    found = {r["step"]: r["strength_share"] for r in log_of(tmp_path / "run") if "strength_share" in r}
    first, fourth, last = 0, 3, 7  # of eight steps; the log counts from 1, and has the epochs' ends
    shapes: dict[str, Callable[[int], float]] = {
        "linear-up": lambda step: step / 7,
        "linear-down": lambda step: 1 - step / 7,
        "cosine": lambda step: (1 + math.cos(math.pi * step / 7)) / 2,
    }
    wanted = {step + 1: 0.1 + 0.9 * shapes[schedule](step) for step in (first, fourth, last)}
    assert found == pytest.approx(wanted, rel=1e-5)


def test_a_schedule_resumes_to_the_same_bits(
    source: Checkpoint, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy = LwF(epochs=3, head="new", batch_size=32, depths=2, strength_schedule="cosine", strength=5.0)
    whole = transfer(source, task, strategy, run=QUIET)
    run, forward = dataclasses.replace(QUIET, out=tmp_path / "run"), LwFObjective.forward

    def killed(self: LwFObjective, batch: Batch) -> dict[str, torch.Tensor]:
        if batch.step == 6:
            raise KeyboardInterrupt
        return forward(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(LwFObjective, "forward", killed)
        with pytest.raises(KeyboardInterrupt):
            transfer(source, task, strategy, run=run)
    resumed = transfer(source, task, strategy, run=dataclasses.replace(run, resume=True))
    assert same_state(resumed.classifier, whole.classifier)
    assert resumed.card.metrics == whole.card.metrics


def test_an_unmoved_depth_has_no_size(task: Task) -> None:
    dead = make_source()
    body: Any = dead.classifier.body
    with torch.no_grad():
        body.conv1.weight.zero_()
    with pytest.raises(ConfigError, match="all 0"):
        transfer(dead, task, LwF(head="new", depths=0, warm_start=False), run=QUIET)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depths": -1}, "depths must not be negative"),
        ({"depths": 2, "feature_weight": 0.1}, "give strength with several depths"),
        ({"directions": "shift"}, "not at hand: name them, source_data="),
        ({"source_data": "builtin:digits"}, "source_data has no effect without directions=shift"),
        ({"directions": "shift", "source_data": "x", "distance": "l1"}, "knows no other directions"),
        ({"directions": "shift", "source_data": "x", "shift_floor": 0.0}, "shift_floor must be above 0"),
        ({"strength_schedule": "cosine", "strength_least": 1.5}, "a share between 0 and 1"),
        ({"strength_least": 0.5}, "no effect with a constant strength"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LwF.from_settings(settings)


def test_too_many_depths_are_refused_before_anything_is_done(source: Checkpoint, task: Task) -> None:
    with pytest.raises(ConfigError, match="depths=8"):
        LwF(depths=8).check(source, task)
