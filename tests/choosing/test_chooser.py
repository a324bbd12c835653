"""The choice as a whole: test is seen once, time is kept to, what was cut short goes on."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import QUIET, Unreadable, make_digits, make_source, without_val

from robust_transfer.checkpoint import Checkpoint, load_checkpoint
from robust_transfer.choosing import Rule, choose, judging, load_choice
from robust_transfer.choosing import chooser as module
from robust_transfer.choosing.contenders import LEFT_OUT, Contender
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError, DivergedError
from robust_transfer.evaluation import load_evaluation
from robust_transfer.strategies import LinearProbe

FINAL = "pgd-12:restarts=2"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two probes of each source, no training, and a final attack of seconds: what `strong` finds is tested elsewhere."""
    for each in (module, judging):
        monkeypatch.setattr(each, "FINAL", FINAL)
    looks = [("weak", 1e-4), ("strong", 10.0)]
    monkeypatch.setattr(
        module, "closer_look",
        lambda source: [Contender(source, name, LinearProbe(l2=l2), shares=True) for name, l2 in looks],
    )  # fmt: skip


@pytest.fixture
def digits() -> Task:
    return make_digits(train=64, val=20, test=10)


@pytest.fixture
def source() -> Checkpoint:
    return make_source(threat="linf:2/255")


def untested(task: Task) -> Task:
    """Task without a test split, whose evaluation takes longest."""
    return dataclasses.replace(task, test=task.test.subset(torch.arange(0)))


@pytest.mark.usefixtures("few")
def test_what_is_taken_is_saved_with_its_evaluation(digits: Task, source: Checkpoint, tmp_path: Path) -> None:
    run = dataclasses.replace(QUIET, out=tmp_path / "chosen")
    found = choose(digits, sources=[source], seconds=600, run=run)
    assert run.out is not None
    choice = load_choice(run.out)
    assert choice == found.choice
    assert [one.name for one in choice.tried] == [
        f"source 1: {x}" for x in ("linear-probe, l2 by log-loss", "weak", "strong")
    ]
    finalists = [one for one in choice.tried if one.final_robust is not None]
    assert choice.final_attack == FINAL
    assert choice.best in finalists
    assert choice.best is choice.rule.choose(finalists)[0]
    stored = load_checkpoint(run.out)
    assert stored.hash == found.checkpoint.hash
    assert stored.card.settings == choice.best.settings
    assert "chosen of 3 contenders" in stored.card.criterion
    assert stored.card.cost.adversarial_examples > 3 * 5
    assert found.evaluation is not None
    tested = load_evaluation(run.out)
    assert tested.data_hash == digits.test.hash
    assert tested.outcomes.equals(found.evaluation.outcomes)
    assert tested.model_hash == stored.hash
    assert set(LEFT_OUT) <= set(choice.untried)
    assert not (run.out / "tried").exists()
    assert choice.threat == "linf:2/255"


@pytest.mark.usefixtures("few")
def test_nothing_but_the_last_evaluation_sees_test(
    digits: Task, source: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = dataclasses.replace(digits, test=dataclasses.replace(digits.test, reader=Unreadable(), content=None))
    asked = list[Any]()
    monkeypatch.setattr(module, "evaluate", lambda *args, **how: asked.append((args, how)))
    found = choose(hidden, sources=[source], seconds=600, run=QUIET)
    ((model, split), how) = asked[0]
    assert (len(asked), model, split) == (1, found.checkpoint, hidden.test)
    assert how["attack"] == FINAL


@pytest.mark.usefixtures("few")
def test_without_time_the_first_look_is_all(digits: Task, source: Checkpoint) -> None:
    found = choose(digits, sources=[source], seconds=0.01, run=QUIET)
    assert len(found.choice.tried) == 1
    assert "no time" in found.choice.untried["source 1: weak"]
    assert found.choice.final_attack is None
    assert any("rests on quick" in note for note in found.choice.notes)


@pytest.mark.usefixtures("few")
def test_a_choice_that_was_cut_short_goes_on(
    digits: Task, source: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, made = dataclasses.replace(QUIET, out=tmp_path / "chosen"), list[str]()
    real = LinearProbe.adapt

    def adapt(self: LinearProbe, *args: Any) -> Any:
        if len(made) == 2 and made[-1] != "stopped":
            made.append("stopped")
            raise KeyboardInterrupt
        made.append(str(self.l2))
        return real(self, *args)

    monkeypatch.setattr(LinearProbe, "adapt", adapt)
    with pytest.raises(KeyboardInterrupt):
        choose(digits, sources=[source], seconds=600, run=run)
    found = choose(digits, sources=[source], seconds=600, run=dataclasses.replace(run, resume=True))
    assert made == ["None", "0.0001", "stopped", "10.0"]  # the first two are not made again
    assert len(found.choice.tried) == 3
    again = choose(digits, sources=[source], seconds=600, run=dataclasses.replace(run, resume=True))
    assert again.choice == found.choice
    assert len(made) == 4


@pytest.mark.usefixtures("few")
def test_a_source_that_cannot_be_used_is_told(digits: Task, source: Checkpoint, tmp_path: Path) -> None:
    missing = str(tmp_path / "nowhere")
    found = choose(untested(digits), sources=[missing, source], seconds=600, run=QUIET)
    assert found.evaluation is None
    assert any("no test split" in note for note in found.choice.notes)
    assert "nowhere" in found.choice.untried[missing]
    with pytest.raises(ConfigError, match="nowhere"):
        choose(digits, sources=[missing], run=QUIET)


def test_contenders_that_fail_are_told(digits: Task, source: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverges(*_: Any) -> Any:
        raise DivergedError("it exploded")

    monkeypatch.setattr(LinearProbe, "adapt", diverges)
    with pytest.raises(DivergedError, match="it exploded"):
        choose(digits, sources=[source], seconds=600, run=QUIET)


def test_what_cannot_work_is_refused(digits: Task, source: Checkpoint) -> None:
    with pytest.raises(ConfigError, match="on val"):
        choose(without_val(digits), sources=[source])
    for seconds in (0.0, float("inf"), float("nan")):
        with pytest.raises(ConfigError, match="time limit"):
            choose(digits, sources=[source], seconds=seconds)


@pytest.mark.usefixtures("few")
def test_other_threats_are_said(digits: Task, source: Checkpoint) -> None:
    other = make_source(1, threat="l2:0.5")
    found = choose(
        untested(digits), sources=[source, other], seconds=600, threat="linf:1/255", rule=Rule(keep=0.5), run=QUIET
    )
    assert found.choice.threat == "linf:1/255"
    (note,) = [note for note in found.choice.notes if "another threat" in note]
    assert "source 1 (linf:2/255)" in note
    assert "source 2 (l2:0.5)" in note
    assert json.dumps(found.choice.untried)
