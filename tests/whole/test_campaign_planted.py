"""Planted defences raise their flag, honest networks none: at a tiny scale; `make planted` is the whole campaign."""

from __future__ import annotations

from typing import Any

import defence_table
import page
import planted
import pytest
import torch
from adaptive import attacked, right
from defences import MAKERS, Bases, defence
from digit_nets import digits
from honest import on_digits
from record import Count, read

from robust_transfer.data import to_pixels

N = 16
SOON = ("pixels rounded to 3 bits", "gradient of a decoy", "winners take all", "stable head", "noise")
# Figures that are right: there is nothing to be flagged, and it may be.
HARMLESS = ("principal components", "detector that rejects")


@pytest.fixture(scope="module")
def bases() -> Bases:
    return Bases(digits(N))


def _flags(name: str, bases: Bases) -> list[str]:
    torch.manual_seed(0)
    return planted.doubts(planted.evaluate(defence(name, bases), bases.data.test, planted.PGD).flags)


@pytest.mark.parametrize("name", SOON)
def test_a_planted_defence_raises_a_flag(name: str, bases: Bases) -> None:
    assert _flags(name, bases)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MAKERS if name not in SOON])
def test_every_planted_defence_raises_a_flag(name: str, bases: Bases) -> None:
    assert _flags(name, bases) or name in HARMLESS


@pytest.mark.parametrize("number", [0, 3, 8])
def test_an_honest_network_raises_none(number: int) -> None:
    one = next(one for at, one in enumerate(on_digits(digits(30), 0)) if at == number)
    assert planted.honest(one, planted.PGD)["flags"] == []


@pytest.mark.parametrize(
    "name", ["pixels rounded to 3 bits", "hardmax", "other answers to gradients", "remembers queries"]
)
def test_the_adaptive_attack_finds_what_is_hidden(name: str, bases: Bases) -> None:
    one, x, y = defence(name, bases), to_pixels(bases.data.test.images()), bases.data.test.labels
    assert right(one.model, x, y).mean() > 0.8
    left = attacked(one.model, one.stand_ins, x, y, planted.EPS, seed=0)
    assert left.mean() < 0.5
    assert (left <= right(one.model, x, y)).all()


def test_the_record_counts_hits_misses_and_false_alarms() -> None:
    cases: list[dict[str, Any]] = [
        {"name": "a", "kind": "masking", "too high": True, "flags": ["x"]},
        {"name": "b", "kind": "masking", "too high": True, "flags": []},
        {"name": "c", "kind": "detector", "too high": False, "flags": []},
        {"name": "d", "kind": "honest", "flags": []},
        {"name": "e", "kind": "honest", "flags": ["x"]},
    ]
    made = planted.recorded(cases)
    assert [count.value for count in made.counts] == [3, 1, 2, 1, 2, 1]
    assert made.failed
    assert not planted.recorded([cases[0], cases[2], cases[3]]).failed
    assert isinstance(made.counts[0], Count)
    assert "50.0 %" in made.counts[5].what


def test_flags_that_a_weak_network_earns_are_no_doubts() -> None:
    assert planted.doubts(["constant classifier is more robust", "the gradient misleads"]) == ["the gradient misleads"]


def test_the_table_of_defences_is_what_the_record_says() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    cases = [case for record in read() if record.name == "planted" for case in record.cases]
    assert defence_table.with_table(text, cases) == text, "run: python campaigns/defence_table.py"


def test_the_table_marks_what_is_missed() -> None:
    case = {"name": "a", "kind": "masking", "n": 30, "clean": 0.9, "pgd-20": 0.8, "reported": 0.8, "adaptive": 0.1}
    drawn = defence_table.table([{**case, "too high": True, "flags": []}]).splitlines()[-1]
    assert drawn == "| a | masking | 30 | 90.0 | 80.0 | 80.0 | 10.0 | **missed** |"
    flags = ["the gradient is zero or vanishing on 3 of 30 images: x", "the model is random: y"]
    assert defence_table.names(flags) == ["no gradient", "random"]
