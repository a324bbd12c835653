"""Names of others as they are shown: nothing in them is obeyed."""

from __future__ import annotations

import pytest

from robust_transfer.shown import in_csv, in_markdown, one_line, printable


@pytest.mark.parametrize(
    "text", ["\x1b[2J", "a\x07", "\u202eb", "\x9b31m", "\u2028", "\udcff", "\r", "\t", "\ufeff", "\x7f"]
)
def test_what_a_terminal_obeys_is_spelled_out(text: str) -> None:
    for way in (printable, one_line, in_markdown, in_csv):
        assert way(text).isprintable()
        assert "\\" in way(text)


def test_what_is_printable_stays() -> None:
    assert printable("猫 é\nb") == "猫 é\nb"
    assert one_line("猫\nb") == "猫\\nb"


def test_markdown_gets_no_tags_links_and_cells() -> None:
    assert in_markdown("<b>&lt;|![x](y)") == "&lt;b>&amp;lt;\\|![x]\\(y)"
    assert in_markdown("wrn_16_1 [0.1, 0.2] (a)") == "wrn_16_1 [0.1, 0.2] (a)"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "'x"])
def test_no_cell_begins_a_formula(text: str) -> None:
    assert in_csv(text) == f"'{text}"


def test_other_cells_stay() -> None:
    assert in_csv("cat-1=2") == "cat-1=2"
