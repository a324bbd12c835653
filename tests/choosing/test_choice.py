"""The rule, the front and the record of a choice."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from robust_transfer.choosing.choice import CHOICE, Choice, Judged, Rule, front, load_choice
from robust_transfer.errors import ConfigError, DataError
from robust_transfer.statistics.intervals import wilson


def judged(name: str, clean: int, robust: int, **more: Any) -> Judged:
    """Contender with so many of 100 val images right, clean and under attack."""
    return Judged(
        name=name, source="s", method="m", settings={}, folder=name, clean=wilson(clean, 100),
        robust=wilson(robust, 100), seconds=1.0, **more,
    )  # fmt: skip


A, B, C, D = judged("a", 60, 50), judged("b", 70, 46), judged("c", 80, 44), judged("d", 65, 40)
RECORD = Choice(
    chosen="b", why="because", threat="linf:8/255", rule=Rule(), attack="quick", final_attack=None, tried=(A, B),
    untried={"c": "it diverged", "e": "no time: 5 s", "f": "no time: 6 s"},
    data="digits", limit=60.0, seconds=50.0, notes=("careful",),
)  # fmt: skip


def test_the_most_accurate_that_keeps_its_share_is_taken() -> None:
    assert Rule(keep=0.9).choose([A, B, C, D])[0] is B  # 45 of 100 are asked for
    assert Rule(keep=0.88).choose([A, B, C, D])[0] is C  # 44
    assert Rule(keep=1.0).choose([A, B, C, D])[0] is A
    assert "best robust accuracy (50.0 %)" in Rule().choose([A, B, C])[1]


def test_the_most_robust_that_is_accurate_enough_is_taken() -> None:
    assert Rule(clean=0.65).choose([A, B, C, D])[0] is B
    best, why = Rule(clean=0.9).choose([A, B, C, D])
    assert best is C
    assert "nothing has a clean accuracy of 0.9" in why


def test_of_equals_the_first_is_taken() -> None:
    twin = judged("twin", 70, 46)
    assert Rule().choose([A, B, twin])[0] is B
    assert Rule(clean=0.5).choose([A, twin, B])[0] is A
    assert Rule(clean=0.65).choose([twin, B])[0] is twin


def test_the_final_attack_counts_where_there_was_one() -> None:
    weak = judged("weak", 90, 60, final_clean=wilson(45, 50), final_robust=wilson(5, 50))
    assert weak.point == (0.9, 0.1)
    assert Rule().choose([weak, B])[0] is B


def test_the_front_has_what_nothing_beats() -> None:
    found = [judged(f"{c}-{r}", c, r) for c, r in itertools.product((10, 30, 50), (5, 20, 40)) if c + r <= 60]
    beaten = {
        one.name for one, other in itertools.permutations(found, 2)
        if all(y >= x for x, y in zip(one.point, other.point, strict=True)) and one.point != other.point
    }  # fmt: skip
    assert {one.name for one in front(found)} == {one.name for one in found} - beaten
    assert len(front([A, judged("twin", 60, 50)])) == 1


@pytest.mark.parametrize("wrong", [{"keep": 0.0}, {"keep": 1.1}, {"clean": 1.0}, {"clean": 0.0}])
def test_shares_that_are_none_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        Rule(**wrong)


def test_the_record_comes_back_and_tells_all(tmp_path: Path) -> None:
    choice = RECORD
    choice.save(tmp_path)
    assert load_choice(tmp_path) == choice
    text = "\n".join(choice.lines())
    for part in (
        "chosen: b: because",
        "* a",
        "46.0 % [36.",
        "not tried: c: it diverged",
        "want of time: 2 more",
        "note: careful",
    ):
        assert part in text
    assert choice.best is B


def test_a_damaged_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="robust-transfer choose"):
        load_choice(tmp_path)
    (tmp_path / CHOICE).write_text("{")
    with pytest.raises(DataError, match="damaged"):
        load_choice(tmp_path)
    (tmp_path / CHOICE).write_text(json.dumps({"chosen": "a"}))
    with pytest.raises((DataError, ConfigError)):
        load_choice(tmp_path)


def test_balanced_accuracy_decides_where_it_is_asked_for() -> None:
    """A keeps its place by accuracy; by balanced accuracy it is the other one."""
    a = judged("a", 90, 60, balanced=(wilson(50, 100), wilson(20, 100)))
    b = judged("b", 70, 50, balanced=(wilson(65, 100), wilson(45, 100)))
    assert Rule().choose([a, b])[0] is a
    a, b = (dataclasses.replace(one, by_balanced=True) for one in (a, b))
    best, why = Rule().choose([a, b])
    assert best is b
    assert why.endswith("(45.0 %); each class counts the same")
    assert front([a, b]) == [b]


@pytest.mark.parametrize(("imbalance", "said"), [(3.0, False), (3.1, True)])
def test_imbalance_is_said_above_three(imbalance: float, said: bool) -> None:
    choice = dataclasses.replace(RECORD, imbalance=imbalance)
    assert (choice.on_classes() is not None) is said
    assert ("3.1 times" in "\n".join(choice.lines()[:2])) is said
