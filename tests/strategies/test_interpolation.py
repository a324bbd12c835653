"""Interpolation: the ends, what lies between, and what that costs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from helpers import QUIET, make_source, same_state

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.data import Task
from robust_transfer.errors import CheckpointError, ConfigError
from robust_transfer.preprocessing import Preprocessing
from robust_transfer.provenance import Mixture
from robust_transfer.strategies import FineTune, Interpolate, LinearProbe, interpolate, transfer
from robust_transfer.strategies.curve import Front

SMALL = Interpolate(epochs=1, head="new", l2=0.1, shares=(0.25, 1.0))


@pytest.fixture(scope="module")
def source() -> Checkpoint:
    return make_source(threat="linf:8/255")


def test_weights_lie_between_the_probe_and_its_fine_tuning(source: Checkpoint, task: Task) -> None:
    assert source.card.threat is not None
    front = Front(task, source.card.threat, QUIET)
    SMALL.walk(front, source, task, QUIET)
    probe = transfer(source, task, LinearProbe(l2=0.1), run=QUIET).classifier.state_dict()
    tuned = transfer(source, task, FineTune(epochs=1, head="new", l2=0.1), run=QUIET).classifier.state_dict()
    assert len(front.found) == 3
    for point in front.found:
        share = point.settings.get("share") or 0.0
        for name, value in point.classifier.state_dict().items():
            wanted = (1 - share) * probe[name] + share * tuned[name] if value.is_floating_point() else probe[name]
            torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-6)


def test_every_share_is_measured_and_the_training_paid_once(source: Checkpoint, task: Task) -> None:
    result = transfer(source, task, SMALL, run=QUIET)
    points = result.card.metrics["front"]
    assert [(p["kind"], p.get("share")) for p in points] == [
        ("linear-probe", None), ("interpolate", 0.25), ("interpolate", 1.0),
    ]  # fmt: skip
    tuned = transfer(source, task, FineTune(epochs=1, head="new", l2=0.1), run=QUIET)
    assert points[-1]["val_clean_accuracy"] == tuned.card.metrics["val_clean_accuracy"]  # share 1 is the fine-tuning
    attacked = result.card.cost.passes - tuned.card.cost.passes
    assert 0 < attacked < 3 * len(task.val) * 25  # three looks at val by PGD-10, and no second training
    assert result.card.cost.adversarial_examples > 0


def test_a_kept_head_begins_at_the_source_itself(task: Task) -> None:
    source = make_source(threat="linf:8/255")
    strategy = Interpolate(epochs=1, head="keep", shares=(0.5,))
    points = transfer(source, task, strategy, run=QUIET).card.metrics["front"]
    assert points[0]["kind"] == "source"
    assert "l2" in points[0]


def test_an_interrupted_one_goes_on(
    source: Checkpoint, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = dataclasses.replace(QUIET, out=tmp_path / "run")
    with monkeypatch.context() as patched:
        patched.setattr("robust_transfer.strategies.interpolation.between", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            transfer(source, task, SMALL, run=run)
    resumed = transfer(source, task, SMALL, run=dataclasses.replace(run, resume=True))
    whole = transfer(source, task, SMALL, run=QUIET)
    assert same_state(resumed.classifier, whole.classifier)
    assert resumed.card.metrics == whole.card.metrics
    assert not (tmp_path / "run" / "front").exists()


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("shares", [(), (0.0,), (1.5,)])
def test_shares_are_shares(shares: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="shares"):
        Interpolate(shares=shares)


def test_interpolation_says_what_it_is_made_of(task: Task) -> None:
    source = make_source(threat="linf:8/255")
    a = transfer(source, task, LinearProbe(choose="robust", path=(1.0, 0.1)), run=QUIET)
    b = transfer(source, task, FineTune(epochs=1, head="new", l2=0.1), run=QUIET)
    mixed = interpolate(a, b, 0.25).card
    assert mixed.source is not None
    assert mixed.cost == a.card.cost + b.card.cost
    assert mixed.cost.adversarial_examples == a.card.cost.adversarial_examples > 0
    assert isinstance(mixed.source, Mixture)
    assert (mixed.source.a.weights, mixed.source.b.weights) == (a.hash, b.hash)
    assert mixed.data == a.card.data
    assert "0.25" in mixed.criterion


def test_interpolation_refuses_what_does_not_mix(task: Task) -> None:
    a = make_source()
    renamed = dataclasses.replace(a, card=dataclasses.replace(a.card, class_names=tuple("abcdefghij")))
    spec = dataclasses.replace(a.card.network, preprocessing=Preprocessing(size=16))
    resized = dataclasses.replace(a, card=dataclasses.replace(a.card, network=spec))
    for other, what in ((renamed, "classes"), (resized, "network")):
        with pytest.raises(CheckpointError, match=what):
            interpolate(a, other, 0.5)
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="share"):
            interpolate(a, a, share)


def test_interpolation_meets_its_ends(source: Checkpoint, task: Task) -> None:
    a = transfer(source, task, LinearProbe(), run=QUIET)
    b = transfer(source, task, FineTune(epochs=1, head="new"), run=QUIET)
    assert same_state(interpolate(a, b, 0.0).classifier, a.classifier)
    assert same_state(interpolate(a, b, 1.0).classifier, b.classifier)
    half = interpolate(a, b, 0.5).classifier.get_parameter("head.weight")
    assert torch.allclose(
        half, (a.classifier.get_parameter("head.weight") + b.classifier.get_parameter("head.weight")) / 2
    )
