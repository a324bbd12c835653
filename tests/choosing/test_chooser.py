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
from robust_transfer.data import Split, Task
from robust_transfer.errors import ConfigError, DivergedError
from robust_transfer.evaluation import evaluate, load_evaluation
from robust_transfer.evaluation.outcomes import CLEAN, SURVIVED
from robust_transfer.report import write_beside
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


def test_a_source_without_such_a_grid_is_said(
    digits: Task, source: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    fine = Contender("source 1", "fine", LinearProbe(grid=9))
    monkeypatch.setattr(module, "closer_look", lambda _: [fine])
    monkeypatch.setattr(module, "FINAL", FINAL)
    found = choose(untested(digits), sources=[source], seconds=600, run=QUIET)
    assert "too few for a grid of 9x9" in found.choice.untried["source 1: fine"]
    assert len(found.choice.tried) == 1


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


def uneven(task: Task, classes: int = 3) -> Task:
    """Task of some digits, of which the first has all its images and each of the others two of train, val and test."""

    def cut(split: Split) -> Split:
        rows = [(split.labels == label).nonzero().flatten() for label in range(classes)]
        return split.subset(torch.cat([rows[0], *(each[:2] for each in rows[1:])]))

    return dataclasses.replace(task, train=cut(task.train), val=cut(task.val), test=cut(task.test))


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("weighed", [False, True])
def test_imbalanced_classes_are_said_and_weighed_where_asked_for(
    weighed: bool, source: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The figures are the means of recalls, counted here; nothing is weighed that was not asked for."""
    seen: dict[tuple[str, str], Any] = {}

    def noted(made: Checkpoint, split: Any, **how: Any) -> Any:
        found = evaluate(made, split, **how)
        seen[made.hash, how["attack"]] = found.outcomes
        return found

    monkeypatch.setattr(judging, "evaluate", noted)
    task = uneven(make_digits(train=160, val=60, test=90))
    task = task.balanced() if weighed else task
    run = dataclasses.replace(QUIET, out=tmp_path / "chosen")
    found = choose(task, sources=[source], seconds=600, run=run)
    choice, counts = found.choice, task.train.labels.bincount()
    assert choice.imbalance == float(counts[0]) / 2 > 3
    best = choice.best
    outcomes = seen[load_checkpoint(tmp_path / "chosen").hash, FINAL] if best.final_robust else None
    assert outcomes is not None
    groups = [rows["broken_by"] for _, rows in outcomes.groupby("label")]
    recalls = [[(fates != CLEAN).mean() for fates in groups], [(fates == SURVIVED).mean() for fates in groups]]
    balanced = tuple(sum(each) / len(each) for each in recalls)
    assert best.balanced is not None
    assert tuple(share.value for share in best.balanced) == pytest.approx(balanced)
    plain = best.final_clean.value, best.final_robust.value  # type: ignore[union-attr]
    assert plain != pytest.approx(balanced), "otherwise the test could not tell them apart"
    assert best.point == pytest.approx(balanced if weighed else plain)
    chosen, classes, figures, *_ = str(found).splitlines()
    assert ("each class counts the same" in chosen) is weighed
    assert f"{choice.imbalance:.3g} times as many" in classes
    assert ("--class-weights balanced" in classes) is not weighed
    assert figures == f"chosen, on val, balanced accuracy: clean {best.balanced[0]}, robust {best.balanced[1]}"
    assert "on test, balanced accuracy" in str(found).splitlines()[-1]
    assert found.checkpoint.card.data.get("weights") == ("balanced" if weighed else None)
    assert load_choice(tmp_path / "chosen") == choice
    page = write_beside(tmp_path / "chosen", run=QUIET).read_text(encoding="utf-8")
    assert f"{choice.imbalance:.3g} times as many training images" in page
    assert "The classes are imbalanced (2 to " in page


def test_even_classes_are_not_talked_about(digits: Task) -> None:
    assert digits.imbalance < 3


@pytest.mark.usefixtures("few")
def test_a_threat_that_nobody_has_said_is_told(digits: Task, source: Checkpoint) -> None:
    nobodys = dataclasses.replace(source, card=dataclasses.replace(source.card, method="import", threat=None))
    found = choose(untested(digits), sources=[nobodys], seconds=0.01, run=QUIET)
    assert found.choice.threat == "linf:8/255"
    (note,) = [note for note in found.choice.notes if "not known" in note]
    assert note == "judged at linf:8/255; not known is what source 1 was trained for (--threat says it)"
    said = choose(untested(digits), sources=[nobodys], seconds=0.01, threat="linf:1/255", run=QUIET)
    assert not [note for note in said.choice.notes if "not known" in note]
    assert str(said.checkpoint.card.threat) == "linf:1/255"
