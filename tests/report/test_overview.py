"""Many runs beside each other: numbers in short, red flags once each, and what was never evaluated."""

from __future__ import annotations

from pathlib import Path

from report_helpers import Page, evaluation, network, outcomes

from robust_transfer.report import write_report
from robust_transfer.report.overview import _label

NAMES = tuple("abcde")


def test_numbers_in_short() -> None:
    assert _label([1]) == "1"
    assert _label([2, 1]) == "1, 2"
    assert _label([1, 2, 3, 7, 9, 10, 9]) == "1-3, 7, 9, 10"


def test_a_red_flag_of_several_runs_stands_once_with_their_numbers(tmp_path: Path) -> None:
    for k in range(4):
        flags = ["constant classifier is more robust"] if k != 2 else []
        evaluation(outcomes(seed=k), NAMES, flags=flags).save(tmp_path / f"run{k}")
    network(NAMES).save(tmp_path / "never")
    said = Page.of(write_report([tmp_path], tmp_path / "r.html", pictures=False)).words()
    before = said.partition("1: never")[0]
    assert "Without an evaluation" not in before
    assert said.count("Red flag (runs 2, 3, 5): constant classifier is more robust") == 1
    assert "Without an evaluation 1: never made, data not known, seed 0; not evaluated" in said
