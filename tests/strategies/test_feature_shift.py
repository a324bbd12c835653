"""Shifts of the source's features on its own data: their moment, whose images these are, and what is weighed by them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import QUIET, make_classifier, make_digits, make_source
from PIL import Image
from torch import Tensor

from robust_transfer.attacks.source_features import feature_drift, feature_shift
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.data import Task, load_task, to_pixels
from robust_transfer.errors import ConfigError
from robust_transfer.strategies import LinearProbe, LwF, features_of, transfer
from robust_transfer.strategies import feature_shift as module
from robust_transfer.strategies.feature_shift import IMAGES, PASSES, source_shifts
from robust_transfer.strategies.softmax import Standardisation
from robust_transfer.threat import Threat
from robust_transfer.trained_on import trained_on

THREAT = Threat.parse("linf:8/255")


def folder_of_images(folder: Path, seed: int = 0, each: int = 30) -> str:
    """Two classes of noise of two colours, as the source's own data."""
    noise = np.random.default_rng(seed)
    for split, n in (("train", each), ("test", 3)):
        for number, name in enumerate(("cold", "warm")):
            (folder / split / name).mkdir(parents=True)
            for index in range(n):
                pixels = noise.integers(0, 120, (8, 8, 3)) + np.array([60, 60, 60 + 40 * number])
                Image.fromarray(pixels.astype(np.uint8)).save(folder / split / name / f"{index}.png")
    return str(folder)


@pytest.fixture
def own(tmp_path: Path) -> str:
    return folder_of_images(tmp_path / "own")


def trained(data: str | Task, seed: int = 0) -> Checkpoint:
    """A source whose fingerprints say that it was trained on ``data``."""
    task = load_task(data) if isinstance(data, str) else data
    return dataclasses.replace(make_source(seed, threat="linf:8/255"), trained_on=trained_on(task))


def test_a_shift_is_as_long_as_the_drift_and_within_reach() -> None:
    model, split = make_classifier().eval(), make_digits(train=12, val=1, test=1).train
    x, ids = to_pixels(split.images()), split.ids
    clean, shift = feature_shift(model, x, ids, THREAT, steps=6, seed=0)
    torch.testing.assert_close(clean, model.features(x).detach())
    drift = feature_drift(model, x, ids, THREAT, steps=6, seed=0)
    torch.testing.assert_close(drift, shift.norm(dim=1) / clean.norm(dim=1))
    for seed in range(20):  # random images of the ball move the features less
        around = THREAT.random_start(x, ids, seed=seed, purpose="test")
        assert ((model.features(around) - clean).norm(dim=1) < shift.norm(dim=1)).all()


def test_the_moment_is_that_of_the_shifts_one_by_one(own: str, task: Task) -> None:
    source = trained(own)
    found = source_shifts(source, own, task, QUIET)
    images = load_task(own).train.prepared(source.preprocessing)
    assert len(images) <= IMAGES
    total = torch.zeros_like(found.moment)
    for row in range(len(images)):
        one = images.subset(torch.tensor([row]))
        shift = feature_shift(
            source.classifier, to_pixels(one.images()), one.ids, THREAT, steps=module.STEPS, seed=QUIET.seed
        )[1][0].double()
        total += torch.outer(shift, shift)
    torch.testing.assert_close(found.moment, total / len(images), rtol=1e-3, atol=1e-8)
    assert found.cost.adversarial_examples == len(images)
    assert found.cost.passes == PASSES / IMAGES * len(images)
    assert (found.note["images"], found.note["known_to_the_source"]) == (len(images), len(images))


def test_only_the_sources_images_are_attacked(own: str, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    source, seen, real = trained(own), list[Tensor](), feature_shift

    def watched(model: Any, x: Tensor, *given: Any, **more: Any) -> Any:
        seen.append(x)
        return real(model, x, *given, **more)

    monkeypatch.setattr(module, "feature_shift", watched)
    transfer(source, task, LwF(epochs=0.01, head="new", directions="shift", source_data=own), run=QUIET)
    theirs = {image.numpy().tobytes() for image in load_task(own).train.prepared(source.preprocessing).images()}
    attacked = {(255 * image).round().to(torch.uint8).contiguous().numpy().tobytes() for x in seen for image in x}
    assert attacked == theirs


def test_images_of_the_target_are_left_out(own: str, task: Task) -> None:
    """A target that has half of the source's images: the other half is attacked."""
    images = load_task(own).train
    half = torch.arange(len(images)) % 2 == 0
    none = torch.arange(0)
    parts = [images.subset(rows) for rows in (half.nonzero()[:, 0], none, none)]
    target = Task("half", parts[0], parts[1], parts[2])
    found = source_shifts(trained(own), own, target, QUIET)
    assert found.note["images"] == int((~half).sum())
    assert found.cost.adversarial_examples == int((~half).sum())
    whole = dataclasses.replace(target, train=images)
    with pytest.raises(ConfigError, match="are the target's own, and none of these is attacked"):
        source_shifts(trained(own), own, whole, QUIET)


def test_data_that_are_not_the_sources_are_refused(own: str, task: Task, tmp_path: Path) -> None:
    other = folder_of_images(tmp_path / "other", seed=9)
    with pytest.raises(ConfigError, match="is one that the source was trained on: give its own training data"):
        source_shifts(trained(other), own, task, QUIET)
    unknown = source_shifts(make_source(threat="linf:8/255"), own, task, QUIET)
    assert unknown.note["known_to_the_source"] is None  # a source without fingerprints: the card says so


def test_a_source_without_a_threat_is_refused(own: str, task: Task) -> None:
    for strategy in (LwF(directions="shift", source_data=own), LinearProbe(penalty="shift", source_data=own)):
        with pytest.raises(ConfigError, match="needs a source with a threat on its card"):
            strategy.check(make_source(), task)


def test_features_that_do_not_move_are_refused(own: str, task: Task) -> None:
    source = trained(own)
    body: Any = source.classifier.body
    with torch.no_grad():
        body.conv1.weight.zero_()
    with pytest.raises(ConfigError, match="does not move the source's features"):
        source_shifts(source, own, task, QUIET)


def test_the_attack_is_done_once_for_all_runs(
    own: str, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, source = dataclasses.replace(QUIET, cache=tmp_path / "cache"), trained(own)
    first = source_shifts(source, own, task, run)
    with monkeypatch.context() as patched:
        patched.setattr(module, "feature_shift", None)  # it would fail
        assert torch.equal(source_shifts(source, own, task, run).moment, first.moment)
    reseeded = source_shifts(source, own, task, dataclasses.replace(run, seed=1))
    assert not torch.equal(reseeded.moment, first.moment)


def test_lwf_weighs_by_the_shifts(own: str, task: Task) -> None:
    """The objective's root squared is the metric that NumPy makes of the moment; the strength's size is as ever."""
    source = trained(own)
    strategy = LwF(head="new", directions="shift", source_data=own, shift_floor=0.3, strength=2.0)
    made: Any = strategy.objective(source, strategy.start(source, task, QUIET), task, QUIET)
    s = source_shifts(source, own, task, QUIET).moment.numpy()
    m = 0.7 * len(s) * s / np.trace(s) + 0.3 * np.eye(len(s))
    root = made.objective.root.double().numpy()
    np.testing.assert_allclose(root @ root, m, rtol=1e-4, atol=1e-5)
    size = float(features_of(source.classifier, task.train, QUIET).norm(dim=1).mean())
    assert made.objective.weight == pytest.approx(2.0 / size, rel=1e-5)
    assert made.metrics["source_shifts"]["images"] == made.cost.adversarial_examples > 0


def test_the_probe_solves_the_penalised_problem(own: str, task: Task) -> None:
    """Against plain L-BFGS on ``mean CE + l2 / 2 tr(W M W^T)`` over standardised features, from zero."""
    source, l2 = trained(own), 0.3
    result = transfer(source, task, LinearProbe(l2=l2, penalty="shift", source_data=own, shift_floor=0.2), run=QUIET)
    features = features_of(source.classifier, task.train, QUIET)
    standard = Standardisation.of(features)
    s = source_shifts(source, own, task, QUIET).moment.numpy()
    scaled = s / np.outer(standard.std, standard.std)
    m = torch.from_numpy(0.8 * len(s) * scaled / np.trace(scaled) + 0.2 * np.eye(len(s)))
    x, y = (features.double() - standard.mean) / standard.std, task.train.labels
    weight = torch.zeros(10, len(s), dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(10, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=3000, tolerance_grad=1e-10, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        solver.zero_grad()
        value = F.cross_entropy(x @ weight.T + bias, y) + l2 / 2 * (weight @ m @ weight.T).trace()
        value.backward()
        return value

    solver.step(loss)
    wanted = (x @ weight.T + bias).detach().log_softmax(1)
    found = result.classifier.classify(features).detach().double().log_softmax(1)
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-4)
    assert result.card.metrics["path"][0]["objective"] == pytest.approx(float(loss().detach()), abs=1e-7)
    plain = transfer(source, task, LinearProbe(l2=l2), run=QUIET)
    assert (plain.classifier.classify(features).detach().log_softmax(1) - wanted).abs().max() > 1e-2


def test_a_floor_of_one_is_the_plain_probe_and_lwf(own: str, task: Task) -> None:
    source, more = trained(own), {"source_data": own, "shift_floor": 1.0}
    features = features_of(source.classifier, task.train, QUIET)
    a, b = (
        transfer(source, task, LinearProbe.from_settings({"l2": 0.1, **given}), run=QUIET)
        for given in ({}, {"penalty": "shift", **more})
    )
    torch.testing.assert_close(a.classifier.classify(features), b.classifier.classify(features), rtol=1e-3, atol=1e-3)
    how = {"epochs": 1, "head": "new", "l2": 0.1, "batch_size": 32}
    a, b = (
        transfer(source, task, LwF.from_settings({**how, **given}), run=QUIET)
        for given in ({}, {"directions": "shift", **more})
    )
    for ours, theirs in zip(a.classifier.parameters(), b.classifier.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_a_probe_asks_for_both_or_neither() -> None:
    with pytest.raises(ConfigError, match=r"penalty=shift attacks images .* source_data="):
        LinearProbe(penalty="shift")
    with pytest.raises(ConfigError, match="source_data has no effect without penalty=shift"):
        LinearProbe(source_data="builtin:digits")


def test_the_forecast_counts_the_attack(task: Task) -> None:
    probe = LinearProbe(penalty="shift", source_data="x").passes(task) - LinearProbe().passes(task)
    lwf = LwF(directions="shift", source_data="x").passes(task) - LwF().passes(task)
    assert probe == lwf == IMAGES * (2 * module.STEPS + 2)
