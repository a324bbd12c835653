"""Choices by `choose`, on the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import QUIET, make_source, make_task

from robust_transfer.choosing import Choice, Judged, Rule
from robust_transfer.report import write_beside
from robust_transfer.report.choice import chosen
from robust_transfer.report.gather import gather
from robust_transfer.statistics.intervals import wilson
from robust_transfer.strategies import LinearProbe


def judged(name: str, clean: int, robust: int, **more: Any) -> Judged:
    return Judged(
        name=name, source="<b>bundled</b>", method="transfer:lwf", settings={}, folder=name, clean=wilson(clean, 100),
        robust=wilson(robust, 100), seconds=1.0, **more,
    )  # fmt: skip


CHOICE = Choice(
    chosen="b <script>", why="it keeps enough", threat="linf:8/255", rule=Rule(), attack="quick", final_attack="strong",
    tried=(judged("a", 60, 50), judged("b <script>", 70, 46, final_clean=wilson(35, 50), final_robust=wilson(20, 50)),
           judged("c", 55, 30)),
    untried={"d": "no time: about 40 s"}, data="digits", limit=60.0, seconds=50.0, notes=("val has 50 images",),
)  # fmt: skip


def test_the_table_has_the_best_known_figures_and_what_is_on_the_front() -> None:
    found = chosen(CHOICE, "key")
    rows = {row[0]: row[1:] for row in found["figure"].table.rows}
    assert rows["a"][0].startswith("60.0 %")
    assert rows["a"][2:] == ("quick", "100", "on the front")
    assert rows["b <script>"][1].startswith("40.0 %")
    assert rows["b <script>"][2:] == ("strong", "50", "chosen, on the front")
    assert rows["c"][2:] == ("quick", "100", "")


def test_one_point_is_no_front() -> None:
    assert chosen(replace(CHOICE, tried=CHOICE.tried[1:2]), "key")["figure"] is None
    assert chosen(CHOICE, "key")["figure"] is not None


@pytest.fixture
def run(tmp_path: Path) -> Path:
    out = tmp_path / "run"
    with replace(QUIET, out=out).at_work():
        LinearProbe(l2=0.1)(make_source(threat="linf:8/255"), make_task(), run=QUIET).save(out)
        CHOICE.save(out)
    return out


def test_the_page_says_why_and_what_was_not_tried(run: Path) -> None:
    page = write_beside(run, run=QUIET)
    assert page == run / "report.html"
    text = page.read_text(encoding="utf-8")
    for part in (
        "How it was chosen",
        "it keeps enough",
        "no time: about 40 s",
        "val has 50 images",
        "b &lt;script&gt;",
    ):
        assert part in text
    assert "<b>bundled" not in text
    assert "locked" not in text
    assert not (run / ".lock").exists()


def test_the_page_is_a_file_of_the_run(run: Path) -> None:
    write_beside(run, run=QUIET)
    replace(QUIET, out=run, overwrite=True).check_out()  # no foreign file


def test_a_damaged_record_is_told(run: Path) -> None:
    (run / "choice.json").write_text("{")
    (entry,) = gather([run])
    assert any("record of its choice" in problem for problem in entry.problems)
    assert entry.network is not None
    assert entry.network.choice is None


def test_what_is_still_being_tried_is_no_run_of_its_own(run: Path) -> None:
    LinearProbe(l2=0.1)(make_source(threat="linf:8/255"), make_task(), run=QUIET).save(run / "tried" / "one")
    assert len(gather([run])) == 1
