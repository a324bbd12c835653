"""LwF: its penalty against closed forms, its training against a plain loop, its teacher cached and live."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from conftest import make_classifier, make_digits, same_state

from robust_transfer.checkpoint import Card, Checkpoint
from robust_transfer.data import to_pixels
from robust_transfer.errors import ConfigError
from robust_transfer.run import Run
from robust_transfer.strategies import FineTune, LwF, transfer
from robust_transfer.strategies.features import features_of
from robust_transfer.strategies.lwf import LwFObjective, feature_distance
from robust_transfer.training import TrainingSettings, batch_order, fit

QUIET = Run(quiet=True)
DISTANCES = ("l1", "l2", "squared-l2")


@pytest.fixture(scope="module")
def task():
    return make_digits(train=128, val=40, test=10)


@pytest.fixture(scope="module")
def source():
    classifier = make_classifier(seed=1)
    names = tuple(str(i) for i in range(10))
    return Checkpoint(
        classifier.eval(), Card(network=classifier.spec, class_names=names, method="made", threat="linf:8/255")
    )


def test_distances_by_hand():
    z, z0 = torch.tensor([[3.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 4.0], [1.0, 1.0]])
    assert feature_distance(z, z0, "l1").tolist() == [7.0, 0.0]
    assert feature_distance(z, z0, "l2").tolist() == [5.0, 0.0]
    assert feature_distance(z, z0, "squared-l2").tolist() == [25.0, 0.0]


@pytest.mark.parametrize("distance", DISTANCES)
def test_the_gradient_where_training_starts_is_zero_and_finite(distance):
    z0 = torch.randn(5, 7)
    z = z0.clone().requires_grad_(True)
    feature_distance(z, z0, distance).sum().backward()
    assert torch.equal(z.grad, torch.zeros_like(z))


def test_the_l2_gradient_away_from_the_source_is_the_unit_difference():
    z0 = torch.zeros(1, 3)
    z = torch.tensor([[3e-4, 0.0, 4e-4]], requires_grad=True)
    feature_distance(z, z0, "l2").sum().backward()
    assert torch.allclose(z.grad, torch.tensor([[0.6, 0.0, 0.8]]))


@pytest.mark.parametrize("distance", DISTANCES)
def test_training_follows_a_plain_loop(distance, source, task):
    """The objective and `fit` against ten lines of PyTorch."""
    weight, settings = (
        0.01,
        TrainingSettings(epochs=2, batch_size=32, learning_rate=5e-3, weight_decay=1e-3, augment=False),
    )
    cached = features_of(source.classifier, task.train, QUIET)
    ours = source.classifier.copy()
    ours.hold_batch_norm = True
    objective = LwFObjective(ours, weight=weight, distance=distance, features=cached, patience=10**6)
    found = fit(objective, task.train, settings, QUIET).classifier

    plain = source.classifier.copy().eval()  # batch norm in evaluation mode
    optimizer = torch.optim.SGD(plain.parameters(), lr=5e-3, momentum=0.9, weight_decay=1e-3)
    x, y = to_pixels(task.train.images()), task.train.labels
    for step in range(8):
        optimizer.param_groups[0]["lr"] = settings.rate(step, 8)
        chosen = batch_order(0, step // 4, 128)[step % 4 * 32 : step % 4 * 32 + 32]
        z = plain.features(x[chosen])
        difference = z - cached[chosen]
        size = {"l1": difference.abs().sum(1), "squared-l2": difference.square().sum(1)}.get(distance)
        if size is None:
            squared = difference.square().sum(1)
            size = torch.where(squared > 0, squared.clamp_min(1e-30).sqrt(), torch.zeros_like(squared))
        loss = F.cross_entropy(plain.head(z), y[chosen]) + weight * size.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(plain.head.weight, source.classifier.head.weight, atol=1e-4)


def test_without_weight_it_is_fine_tuning_bit_for_bit(source, task):
    settings = {"epochs": 1, "head": "new", "batch_size": 32}
    tuned = transfer(source, task, FineTune(**settings), run=QUIET)
    lwf = transfer(source, task, LwF(**settings, feature_weight=0.0), run=QUIET)
    assert same_state(tuned.classifier, lwf.classifier)


def test_cached_and_live_teachers_agree(source, task):
    settings = {"epochs": 2, "head": "new", "batch_size": 32, "feature_weight": 0.05}
    cached = transfer(source, task, LwF(**settings), run=QUIET)
    live = transfer(source, task, LwF(**settings, teacher="live"), run=QUIET)
    for name, value in cached.classifier.state_dict().items():
        torch.testing.assert_close(live.classifier.state_dict()[name], value, rtol=1e-3, atol=1e-4)


def test_a_larger_weight_holds_the_features_nearer(source, task):
    settings = {"epochs": 4, "head": "new", "batch_size": 32, "learning_rate": 3e-3, "distance": "squared-l2"}
    before = features_of(source.classifier, task.train, QUIET)
    drift = []
    for strength in (0.0, 1.0, 10.0):
        result = transfer(source, task, LwF(**settings, strength=strength), run=QUIET)
        drift.append(float((features_of(result.classifier, task.train, QUIET) - before).norm(dim=1).mean()))
    assert drift[0] > 1.5 * drift[1] > 1.5 * drift[2]


def test_auto_weight_is_relative_to_the_source(source, task):
    size = float(features_of(source.classifier, task.train, QUIET).norm(dim=1).mean())
    result = transfer(source, task, LwF(epochs=0.01, head="new", strength=2.0), run=QUIET)
    assert result.card.metrics["feature_weight"] == pytest.approx(2.0 / size, rel=1e-5)
    raw = transfer(source, task, LwF(epochs=0.01, head="new", feature_weight=0.005), run=QUIET)
    assert raw.card.metrics["feature_weight"] == 0.005


def test_the_paper_preset_has_the_released_settings():
    made = LwF.from_settings({"preset": "paper"})
    assert (made.feature_weight, made.distance, made.learning_rate, made.schedule) == (0.005, "l1", 1e-3, "constant")
    assert (made.momentum, made.weight_decay, made.batch_size, made.batch_norm) == (0.9, 2e-4, 128, "eval")
    assert (made.augment, made.teacher, made.warm_start) == (False, "cached", True)
    assert round(made.epochs * 50_000 / 128) == 10_000
    assert LwF.from_settings({"preset": "paper", "feature_weight": 0.1}).feature_weight == 0.1


def test_a_cached_teacher_refuses_augmentation():
    with pytest.raises(ConfigError, match="teacher=live"):
        LwF(augment=True)
    assert LwF(augment=True, teacher="live").augment
    with pytest.raises(ConfigError, match="negative"):
        LwF.from_settings({"feature_weight": -1})


def test_a_live_teacher_costs_a_pass_an_image(source, task):
    settings = {"epochs": 2, "head": "new", "batch_size": 32, "feature_weight": 0.05}
    cached = transfer(source, task, LwF(**settings), run=QUIET)
    live = transfer(source, task, LwF(**settings, teacher="live"), run=QUIET)
    images = 2 * len(task.train)
    assert live.card.cost - cached.card.cost == images - len(task.train)


def test_resumed_training_returns_the_finished_run(source, task, tmp_path):
    run = dataclasses.replace(QUIET, out=tmp_path / "run")
    first = transfer(source, task, LwF(epochs=1, head="new"), run=run)
    again = transfer(source, task, LwF(epochs=1, head="new"), run=dataclasses.replace(run, resume=True))
    assert again.hash == first.hash
