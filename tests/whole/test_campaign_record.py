"""Records of campaigns, and the table that is drawn from them."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import page
import pytest
from record import FOLDER, ROOT, Count, Record, read


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


def test_no_folder_of_the_machine_is_written(tmp_path: Path) -> None:
    places = (ROOT / "a.py", Path(tempfile.gettempdir()).resolve() / "b", Path(sys.prefix) / "c", Path.home() / "d")
    said = " ".join(map(str, (*places, "/etc/passwd")))
    kept = Record("kills", "Killed", (), cases=({"said": said, "left": (said,), "status": 2},))
    text = kept.write(tmp_path / "out").read_text(encoding="utf-8")
    wanted = "CHECKOUT/a.py TEMPORARY/b ENVIRONMENT/c HOME/d /etc/passwd"
    (found,) = read(tmp_path / "out")
    assert found.cases == ({"said": wanted, "left": [wanted], "status": 2},)
    assert not any(str(place) in text for place in places)


def test_no_record_has_a_folder_of_somebody() -> None:
    for path in FOLDER.rglob("*.json"):
        found = re.findall(r"/(?:home|root|tmp|work|Users|var/folders)/[^\s\"\\]*", path.read_text(encoding="utf-8"))
        assert found == [], path


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
