"""LwF in detail: its gradient, its training against a plain loop, its teachers, resuming."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from helpers import QUIET, everything, folder_of, make_source, make_task, same_state
from torch import Tensor

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.data import Task, to_pixels
from robust_transfer.errors import CheckpointError, ConfigError
from robust_transfer.strategies import FineTune, LinearProbe, LwF, features_of, transfer
from robust_transfer.strategies.feature_distance import Distance, feature_distance
from robust_transfer.strategies.lwf_objective import LwFObjective
from robust_transfer.training import Batch, TrainingSettings, batch_order, fit

DISTANCES = ("l1", "l2", "squared-l2")


@pytest.mark.parametrize("distance", ["l1", "l2"])
def test_rounding_does_not_pull(distance: Distance) -> None:
    """Features computed in another batch differ in the last bit; in that direction an l2 norm would pull with force 1."""
    z0 = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    z = (z0 * (1 + 1e-7 * torch.randn(6, 50, generator=torch.Generator().manual_seed(1)))).requires_grad_(True)
    assert not torch.equal(z, z0)
    feature_distance(z, z0, distance).sum().backward()
    assert z.grad is not None
    assert torch.equal(z.grad, torch.zeros_like(z))


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("far", [1e-4, 1.0])
def test_gradients_are_the_analytic_ones(distance: Distance, far: float) -> None:
    z0 = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    z = (z0 + far * torch.randn(6, 50, generator=torch.Generator().manual_seed(1)).sign()).requires_grad_(True)
    feature_distance(z, z0, distance).sum().backward()
    difference = z.detach() - z0
    expected = {
        "l1": difference.sign(),
        "l2": difference / difference.norm(dim=1, keepdim=True),
        "squared-l2": 2 * difference,
    }[distance]
    torch.testing.assert_close(z.grad, expected, rtol=1e-5, atol=1e-8)


def test_a_strength_that_would_do_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="strength has no effect"):
        LwF.from_settings({"preset": "paper", "strength": 3.0})


@pytest.mark.parametrize("distance", DISTANCES)
def test_every_step_is_a_plain_loops(distance: Distance, source: Checkpoint, task: Task) -> None:
    """Loss by loss and gradient by gradient, from the warm-started head, where the distance has its kink."""
    cached = features_of(source.classifier, task.train, QUIET)
    head = LinearProbe(l2=0.1).solve(source, task, QUIET).chosen.head()
    ours, plain = source.classifier.with_layers(head), source.classifier.with_layers(head)
    objective = LwFObjective(ours, weight=0.02, distance=distance, features=cached)
    optimizers = [torch.optim.SGD(m.parameters(), lr=1e-2, momentum=0.9) for m in (ours, plain)]
    x, y = to_pixels(task.train.images()), task.train.labels
    for step in range(6):
        chosen = batch_order(0, 0, 128)[step * 20 : step * 20 + 20]
        out = objective(Batch(x[chosen], y[chosen], chosen, chosen, step))
        z = plain.body(plain.normalise(x[chosen]))
        difference = z - cached[chosen]
        if distance == "l2":
            size = (difference.square().sum(1) + 1e-30).sqrt() if step else difference.square().sum(1)
        else:
            size = difference.abs().sum(1) if distance == "l1" else difference.square().sum(1)
        loss = F.cross_entropy(plain.head(z), y[chosen]) + 0.02 * size.mean()
        torch.testing.assert_close(out["loss"], loss, rtol=1e-6, atol=1e-7)
        for optimizer, value in zip(optimizers, (out["loss"], loss), strict=True):
            optimizer.zero_grad()
            value.backward()
        for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6)
        for optimizer in optimizers:
            optimizer.step()


@pytest.mark.parametrize("distance", DISTANCES)
def test_cached_and_live_teachers_train_alike_bit_for_bit(distance: Distance, source: Checkpoint, task: Task) -> None:
    settings: dict[str, Any] = {
        "epochs": 2,
        "head": "new",
        "batch_size": 32,
        "distance": distance,
        "feature_weight": 0.05,
    }
    cached = transfer(source, task, LwF(**settings), run=QUIET)
    live = transfer(source, task, LwF(**settings, teacher="live"), run=QUIET)
    assert same_state(cached.classifier, live.classifier)
    assert cached.card.metrics["val_clean_accuracy"] == live.card.metrics["val_clean_accuracy"]


def test_a_live_teacher_sees_the_augmented_images(source: Checkpoint, task: Task) -> None:
    """Before the first step nothing has drifted, whatever was done to the images; a cached teacher would say otherwise."""
    batch = everything(task)
    flipped = dataclasses.replace(batch, images=batch.images.flip(3))
    teacher, cached = source.classifier.copy(), features_of(source.classifier, task.train, QUIET)
    made: dict[str, Any] = {"weight": 1.0, "distance": "l2"}
    live = LwFObjective(source.classifier.copy(), teacher=teacher, **made).eval()
    assert float(live(flipped)["drift"].detach()) == 0.0
    stale = LwFObjective(source.classifier.copy(), features=cached, **made).eval()
    assert float(stale(batch)["drift"].detach()) == 0.0
    assert float(stale(flipped)["drift"].detach()) > 1e-3
    augmented = LwF(epochs=1, head="new", teacher="live", augment=True)
    assert transfer(source, task, augmented, run=QUIET).card.metrics["feature_weight"] > 0


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_live_teacher_computes_what_the_network_does(precision: Literal["float32", "bfloat16"]) -> None:
    """At the start nothing pulls, to the last bit; later the drift is that of plain passes."""
    source, task, run = make_source(), make_task(), dataclasses.replace(QUIET, precision=precision)
    learner, batch = source.classifier.copy(), everything(task)
    objective = LwFObjective(learner, weight=1.0, distance="l2", teacher=source.classifier.copy()).eval()

    def drift() -> tuple[float, Tensor]:
        learner.zero_grad()
        with run.autocast():
            found = objective(batch)["drift"]
        found.backward()
        return found.item(), torch.cat([p.grad.flatten() for p in learner.body.parameters() if p.grad is not None])

    moved, pull = drift()
    assert moved == 0.0
    assert not pull.any()
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.add_(0.1 * parameter.std().nan_to_num() * torch.randn_like(parameter))
        exact, other = (model.copy().double().eval() for model in (source.classifier, learner))
        z0, z = (m.body(m.normalise(batch.images.double())) for m in (exact, other))
        expected = float((z - z0).norm(dim=1).mean())
    assert drift()[0] == pytest.approx(expected, rel=1e-5 if precision == "float32" else 2e-2)


def test_the_teacher_does_not_learn(source: Checkpoint, task: Task) -> None:
    teacher = source.classifier.copy()
    before = teacher.copy()
    objective = LwFObjective(source.classifier.copy(), weight=1.0, distance="l2", teacher=teacher, patience=10**6)
    fit(objective, task.train, TrainingSettings(epochs=1, batch_size=32, learning_rate=1e-2, augment=True), QUIET)
    assert same_state(teacher, before)


def test_a_source_without_features_has_no_auto_weight(task: Task) -> None:
    dead = make_source()
    with torch.no_grad():
        dead.classifier.get_parameter("body.last.0.weight").zero_()
        dead.classifier.get_parameter("body.last.0.bias").fill_(-1.0)
    with pytest.raises(ConfigError, match="all 0"):
        transfer(dead, task, LwF(head="new", warm_start=False), run=QUIET)


@pytest.mark.parametrize("teacher", ["cached", "live"])
def test_a_killed_run_resumes_to_the_same_bits(
    teacher: Literal["cached", "live"], source: Checkpoint, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy = LwF(epochs=3, head="new", batch_size=32, teacher=teacher, feature_weight=0.05, select="clean")
    whole = transfer(source, task, strategy, run=QUIET)
    run, forward, calls = dataclasses.replace(QUIET, out=tmp_path / "run"), LwFObjective.forward, []

    def killed(self: LwFObjective, batch: Any) -> Any:
        calls.append(batch.step)
        if batch.step == 6:  # in the second epoch of four steps each
            raise KeyboardInterrupt
        return forward(self, batch)

    monkeypatch.setattr(LwFObjective, "forward", killed)
    with pytest.raises(KeyboardInterrupt):
        transfer(source, task, strategy, run=run)
    assert not (folder_of(run) / "model.safetensors").exists()

    def counted(self: LwFObjective, batch: Any) -> Any:
        calls.append(batch.step)
        return forward(self, batch)

    monkeypatch.setattr(LwFObjective, "forward", counted)
    calls.clear()
    resumed = transfer(source, task, strategy, run=dataclasses.replace(run, resume=True))
    assert calls[0] == 4  # not from the beginning
    assert same_state(resumed.classifier, whole.classifier)
    assert resumed.card.metrics == whole.card.metrics
    assert resumed.card.cost.passes == whole.card.cost.passes


def test_another_val_split_is_another_run(
    source: Checkpoint, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = dataclasses.replace(QUIET, out=tmp_path / "run")
    monkeypatch.setattr("robust_transfer.strategies.trained.Produced", None)  # stops it when all is trained
    with pytest.raises(TypeError):
        transfer(source, task, FineTune(head="new", epochs=1), run=run)
    other = dataclasses.replace(task, val=task.val.subset(torch.arange(5)))
    with pytest.raises(CheckpointError, match="val"):
        transfer(source, other, FineTune(head="new", epochs=1), run=dataclasses.replace(run, resume=True))


def test_distances_by_hand() -> None:
    z, z0 = torch.tensor([[3.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 4.0], [1.0, 1.0]])
    assert feature_distance(z, z0, "l1").tolist() == [7.0, 0.0]
    assert feature_distance(z, z0, "l2").tolist() == [5.0, 0.0]
    assert feature_distance(z, z0, "squared-l2").tolist() == [25.0, 0.0]


@pytest.mark.parametrize("distance", DISTANCES)
def test_the_gradient_where_training_starts_is_zero_and_finite(distance: Distance) -> None:
    z0 = torch.randn(5, 7)
    z = z0.clone().requires_grad_(True)
    feature_distance(z, z0, distance).sum().backward()
    assert z.grad is not None
    assert torch.equal(z.grad, torch.zeros_like(z))


def test_without_weight_it_is_fine_tuning_bit_for_bit(source: Checkpoint, task: Task) -> None:
    settings: dict[str, Any] = {"epochs": 1, "head": "new", "batch_size": 32}
    tuned = transfer(source, task, FineTune(**settings), run=QUIET)
    held = transfer(source, task, LwF(**settings, feature_weight=0.0), run=QUIET)
    assert same_state(tuned.classifier, held.classifier)


def test_a_larger_weight_holds_the_features_nearer(source: Checkpoint, task: Task) -> None:
    settings: dict[str, Any] = {
        "epochs": 4,
        "head": "new",
        "batch_size": 32,
        "learning_rate": 3e-3,
        "distance": "squared-l2",
    }
    before = features_of(source.classifier, task.train, QUIET)
    drift = []
    for strength in (0.0, 1.0, 10.0):
        result = transfer(source, task, LwF(**settings, strength=strength), run=QUIET)
        drift.append(float((features_of(result.classifier, task.train, QUIET) - before).norm(dim=1).mean()))
    assert drift[0] > 1.5 * drift[1] > 1.5 * drift[2]


def test_auto_weight_is_relative_to_the_source(source: Checkpoint, task: Task) -> None:
    size = float(features_of(source.classifier, task.train, QUIET).norm(dim=1).mean())
    result = transfer(source, task, LwF(epochs=0.01, head="new", strength=2.0), run=QUIET)
    assert result.card.metrics["feature_weight"] == pytest.approx(2.0 / size, rel=1e-5)
    raw = transfer(source, task, LwF(epochs=0.01, head="new", feature_weight=0.005), run=QUIET)
    assert raw.card.metrics["feature_weight"] == 0.005


def test_the_paper_preset_has_the_released_settings() -> None:
    made = LwF.from_settings({"preset": "paper"})
    assert (made.feature_weight, made.distance, made.learning_rate, made.schedule) == (0.005, "l1", 1e-3, "constant")
    assert (made.momentum, made.weight_decay, made.batch_size, made.batch_norm) == (0.9, 2e-4, 128, "eval")
    assert (made.augment, made.teacher, made.warm_start) == (False, "cached", True)
    assert round(made.epochs * 50_000 / 128) == 10_000
    assert LwF.from_settings({"preset": "paper", "feature_weight": 0.1}).feature_weight == 0.1


def test_a_cached_teacher_refuses_augmentation() -> None:
    with pytest.raises(ConfigError, match="teacher=live"):
        LwF(augment=True)
    assert LwF(augment=True, teacher="live").augment
    with pytest.raises(ConfigError, match="negative"):
        LwF.from_settings({"feature_weight": -1})
