"""The table that benchmarks end with, and the file in which several commands gather their rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from load import Load
from table import Report, Row, figure, page, read, table, verdict

QUIET, BUSY = Load(1, 100), Load(50, 100)
ROWS = (
    Row("a step", "plain", (2.0, 8.0, 4.0), load=QUIET),
    Row("a step", "ours", (1.0, 0.5, 3.0), load=BUSY, note="robust 21.0 %"),
    Row("a step", "memory", (40.0,), unit="MB"),
    Row("a pass", "plain", (0.01234,), load=QUIET),
)


def test_medians_ratios_and_neighbours() -> None:
    assert table(ROWS).splitlines() == [
        "| what |  | median | lowest to highest | n | ratio | taken by others |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| a step | plain | 4.00 s | 2.00 to 8.00 | 3 |  | 1 % |",
        "|  | ours | 1.00 s, robust 21.0 % | 0.500 to 3.00 | 3 | 0.25 | 50 %: disturbed by neighbours |",
        "|  | memory | 40.0 MB |  | 1 |  | unknown |",  # of another unit there is no ratio
        "| a pass | plain | 0.0123 s |  | 1 |  | 1 % |",
    ]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (ROWS, "Disturbed by neighbours: 1 of 4 lines; only their ratios, if anything, count."),
        (ROWS[::3], "Not disturbed by neighbours."),
        (ROWS[::2], "Not disturbed by neighbours as far as is known (1 lines unknown)."),
        (ROWS[2:3], "What others took is unknown on this machine."),
    ],
)
def test_a_run_says_in_words_whether_it_was_disturbed(rows: tuple[Row, ...], words: str) -> None:
    assert verdict(rows) == words


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234.4, "1,234"), (12.345, "12.3"), (0.5, "0.500"), (0.012345, "0.0123"), (2e-5, "0.00002"), (0.0, "0.000")],
)  # fmt: skip
def test_figures(value: float, text: str) -> None:
    assert figure(value) == text


def test_rows_come_back_from_the_file_and_name_their_commands_once(tmp_path: Path) -> None:
    path, here, there = tmp_path / "rows.jsonl", {"threads": "1", "commit": "abc"}, {"threads": "2", "commit": "abc"}
    reports = [Report("a.py --quick", here, ROWS[:2]), Report("b.py", here, ROWS[2:3]), Report("c.py", there, ROWS[3:])]
    for report in reports:
        report.append(path)
    assert read(path) == reports
    assert page(read(path)).split("\n\n")[:3] == [
        "`python benchmarks/a.py --quick`, `python benchmarks/b.py`: threads 1; commit abc.",
        "`python benchmarks/c.py`: threads 2; commit abc.",
        table(ROWS),
    ]
    assert page(reports).split("\n\n")[3].startswith(verdict(ROWS))
