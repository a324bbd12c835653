"""SECURITY.md: every guarantee names a test, and every test that it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "SECURITY.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def named_in(path: Path) -> set[str]:
    """Names of the test functions of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def missing(text: str) -> list[str]:
    """Tests that a text names and that are not there."""
    return [
        f"{file}::{name}"
        for file, name in NAMED.findall(text)
        if not (ROOT / file).is_file() or name not in named_in(ROOT / file)
    ]


def rows(text: str) -> list[list[str]]:
    """Cells of the table of inputs, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_every_test_that_is_named_exists() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert len(NAMED.findall(text)) > 30
    assert missing(text) == []


def test_every_guarantee_names_one() -> None:
    for cells in rows(PAGE.read_text(encoding="utf-8")):
        assert len(cells) == 3, cells
        for guarantee in re.split(r"(?<=`)\. ", cells[2]):
            assert NAMED.search(guarantee), f"{cells[0]}: {guarantee}"


def test_what_is_missing_is_found() -> None:
    here = "tests/whole/test_security_page.py"
    text = f"`{here}::test_what_is_missing_is_found` `{here}::test_that_is_not_there` `tests/nowhere.py::test_x`"
    assert missing(text) == [f"{here}::test_that_is_not_there", "tests/nowhere.py::test_x"]
