"""Records of campaigns, and the table that is drawn from them."""

from __future__ import annotations

from pathlib import Path

import page
import pytest
from record import Count, Record, read


def _record(lost: int = 0) -> Record:
    return Record(
        "kills", "Killed", (Count("injected", 50), Count("lost", lost, must_be=0)), seed=3, cases=({"at": 1},)
    )


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    _record().write(tmp_path)
    (found,) = read(tmp_path)
    assert (found.name, found.title, found.counts, found.seed) == ("kills", "Killed", _record().counts, 3)
    assert found.cases == ({"at": 1},)
    assert found.conditions is not None
    assert found.conditions["hardware"]


@pytest.mark.parametrize(("lost", "failed"), [(0, False), (2, True)])
def test_a_record_fails_by_the_count_that_must_be_another(lost: int, failed: bool) -> None:
    assert _record(lost).failed is failed


def test_the_table_says_which_count_failed_and_how_it_was_made(tmp_path: Path) -> None:
    _record(lost=2).write(tmp_path)
    lines = page.table(read(tmp_path)).splitlines()
    assert "| Killed | injected | 50 |  |" in lines
    assert "|  | lost | 2 **failed** | 0 |" in lines
    assert "seed 3" in lines[-1]


def test_only_the_part_between_the_marks_is_drawn_anew() -> None:
    text = f"above\n{page.BEGIN}\nold\n{page.END}\nbelow\n"
    drawn = page.with_table(text, [_record()])
    assert drawn.startswith(f"above\n{page.BEGIN}")
    assert drawn.endswith(f"{page.END}\nbelow\n")
    assert "old" not in drawn


def test_the_page_is_what_the_records_say() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.with_table(text, read()) == text, "run: python campaigns/page.py"
