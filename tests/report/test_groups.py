"""Groups of comparable runs, and runs that are seeds of one thing."""

from __future__ import annotations

from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
from report_helpers import evaluation, network, outcomes

from robust_transfer.report.gather import Entry, gather
from robust_transfer.report.groups import comparable, differences

NAMES = tuple("0123456789")


def entries(tmp_path: Path, **changes: dict[str, Any]) -> list[Entry]:
    for number, (name, change) in enumerate(changes.items()):
        table = outcomes(classes=10, seed=number)
        evaluation(table, NAMES, **change).save(tmp_path / name)
    return gather([tmp_path / name for name in changes])


def test_only_what_was_measured_alike_is_compared(tmp_path: Path) -> None:
    found = entries(
        tmp_path, a={}, other={"data_hash": "e" * 16}, b={}, hard={"attack": "strong"}, far={"threat": "l2:0.5"}
    )
    groups = comparable(found)
    assert [[entry.name for entry in group.entries] for group in groups] == [["a", "b"], ["other"], ["hard"], ["far"]]
    assert differences(groups) == ["threat", "attack", "images"]
    assert differences(groups[:1]) == []


def test_seeds_of_one_thing_are_grouped_and_others_are_not(tmp_path: Path) -> None:
    cards: dict[str, dict[str, Any]] = {
        "s0": {"seed": 0}, "s1": {"seed": 1}, "l2": {"seed": 2, "settings": {"l2": 1.0}}, "s0-again": {"seed": 0},
    }  # fmt: skip
    for number, (name, card) in enumerate(cards.items()):
        made = network(**card).save(tmp_path / name)
        evaluation(outcomes(classes=10, seed=number), NAMES, model_hash=made.hash).save(tmp_path / name)
    found = gather([tmp_path / name for name in ("s0", "s1", "l2")])
    [group] = comparable(found)
    assert [[entry.name for entry in setting.entries] for setting in group.settings] == [["s0", "s1"], ["l2"]]
    seeds, alone = group.settings
    robust = [float((outcomes(classes=10, seed=number)["broken_by"] == "").mean()) for number in (0, 1)]
    assert seeds.robust.value == pytest.approx(mean(robust))
    half = 12.706 * stdev(robust) / 2**0.5  # Student's t of one degree of freedom
    assert seeds.robust.high >= min(1, mean(robust) + half)
    assert alone.entries[0].evaluation is not None
    assert alone.robust == alone.entries[0].evaluation.robust_accuracy
    [group] = comparable(gather([tmp_path / "s0", tmp_path / "s0-again"]))
    assert len(group.settings) == 2
