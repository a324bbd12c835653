"""The frontier: every point from shared features, and the one that was asked for."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from helpers import QUIET, make_source, without_val

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError, DivergedError
from robust_transfer.strategies import Frontier, LinearProbe, LwF, Strategy, transfer
from robust_transfer.strategies import linear_probe as probe_module
from robust_transfer.strategies.features import features_of

SMALL = Frontier(epochs=1, path=(1.0, 0.01), heads=(0.1,), strengths=(0.3, 3.0))


@pytest.fixture(scope="module")
def source() -> Checkpoint:
    return make_source(threat="linf:8/255")


def test_every_point_is_what_its_strategy_makes(source: Checkpoint, task: Task) -> None:
    result = transfer(source, task, dataclasses.replace(SMALL, keep=1e-6), run=QUIET)
    front = result.card.metrics["front"]
    assert [(p["kind"], p["l2"], p["strength"]) for p in front] == [
        ("linear-probe", 1.0, None),
        ("linear-probe", 0.1, None),
        ("linear-probe", 0.01, None),
        ("lwf", 0.1, 0.3),
        ("lwf", 0.1, 3.0),
    ]
    chosen = result.card.metrics["chosen"]
    assert chosen["val_clean_accuracy"] == max(p["val_clean_accuracy"] for p in front)
    alone: Strategy = LinearProbe(l2=chosen["l2"])
    if chosen["kind"] != "linear-probe":
        alone = LwF(l2=0.1, strength=chosen["strength"], epochs=1, head="new")
    wanted = transfer(source, task, alone, run=QUIET).classifier
    for name, value in result.classifier.state_dict().items():  # a path's solves start from each other
        torch.testing.assert_close(value, wanted.state_dict()[name], rtol=0.02, atol=0.01)
    assert result.card.cost.adversarial_examples > 0


def test_features_are_computed_once(source: Checkpoint, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, real = [], features_of

    def counted(*given: object) -> torch.Tensor:
        calls.append(1)
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(probe_module, "features_of", counted)
    monkeypatch.setattr("robust_transfer.strategies.lwf.features_of", None)
    transfer(source, task, SMALL, run=QUIET)
    assert len(calls) == 2  # of train and of val


def test_all_points_are_drawn_and_logged_and_nothing_is_left(source: Checkpoint, task: Task, tmp_path: Path) -> None:
    run = dataclasses.replace(QUIET, out=tmp_path / "run")
    result = transfer(source, task, SMALL, run=run)
    assert (tmp_path / "run" / "frontier.svg").read_text().startswith("<svg")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == result.card.metrics["front"]
    assert not (tmp_path / "run" / "front").exists()


def test_an_interrupted_one_goes_on(
    source: Checkpoint, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = dataclasses.replace(QUIET, out=tmp_path / "run")
    real, seen = LwF.train_from, []

    def dies(self: LwF, *given: object) -> object:
        seen.append(self.strength)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return real(self, *given)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(LwF, "train_from", dies)
        with pytest.raises(KeyboardInterrupt):
            transfer(source, task, SMALL, run=run)
    resumed = transfer(source, task, SMALL, run=dataclasses.replace(run, resume=True))
    whole = transfer(source, task, SMALL, run=QUIET)
    assert resumed.hash == whole.hash
    assert resumed.card.metrics == whole.card.metrics


def test_what_was_trained_is_there_until_the_result_is_saved(
    source: Checkpoint, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = dataclasses.replace(QUIET, out=tmp_path / "run")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            transfer(source, task, SMALL, run=run)
    assert list((tmp_path / "run" / "front").iterdir())
    transfer(source, task, SMALL, run=dataclasses.replace(run, resume=True))
    assert not (tmp_path / "run" / "front").exists()


def test_a_point_that_diverges_is_left_out_and_told(
    source: Checkpoint, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverges(*_: object) -> None:
        raise DivergedError("the loss exploded")

    monkeypatch.setattr(LwF, "train_from", diverges)
    card = transfer(source, task, SMALL, run=QUIET).card
    assert {point["kind"] for point in card.metrics["front"]} == {"linear-probe"}
    told = [event for event in card.events if "exploded" in event]
    assert told[0].startswith("l2-0.1-strength-0.3")


def test_what_cannot_be_chosen_is_refused(source: Checkpoint, task: Task) -> None:
    with pytest.raises(ConfigError, match="selects on val"):
        transfer(source, without_val(task), SMALL, run=QUIET)
    with pytest.raises(ConfigError, match="no robustness to keep"):
        transfer(make_source(), task, SMALL, run=QUIET)
    for settings in ({"keep": 0}, {"keep": 1.1}, {"clean": 1.0}, {"strengths": (-1.0,)}, {"heads": (0.0,)}):
        with pytest.raises(ConfigError):
            Frontier(**settings)
