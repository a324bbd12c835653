"""The committed reference pages: what the script writes now, complete, and free of PyTorch."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
import reference_pages
import typer.main
from typer.models import OptionInfo

from robust_transfer import cli
from robust_transfer.attacks import ATTACKS
from robust_transfer.data.formats import FORMATS
from robust_transfer.pretraining import PRETRAINING
from robust_transfer.sources import list_sources
from robust_transfer.strategies import STRATEGIES

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"


@pytest.mark.parametrize("name", reference_pages.PAGES)
def test_the_committed_page_is_what_the_script_writes(name: str) -> None:
    written = (REFERENCE / name).read_text(encoding="utf-8")
    assert written == reference_pages.PAGES[name](), "`make reference` writes it again"


def rows(page: str, section: str) -> list[list[str]]:
    """Cells of the table below a heading, without the head."""
    text = re.split(r"^## ", (REFERENCE / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    [own] = [part for part in text if part.splitlines()[0] == section]
    lines = [line for line in own.splitlines() if line.startswith("| ")][2:]
    return [[cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_every_registered_name_has_a_row() -> None:
    for section, registry in (
        ("Strategies", STRATEGIES), ("Attacks", ATTACKS), ("Pretraining methods", PRETRAINING), ("Data formats", FORMATS),
    ):  # fmt: skip
        assert sorted(row[0] for row in rows("names.md", section)) == sorted(registry.names())
    assert [row[0] for row in rows("names.md", "Sources")] == list(list_sources())


def test_every_command_has_the_options_that_typer_shows() -> None:
    group = typer.main.get_command(cli.app)
    for name, command in vars(group)["commands"].items():
        shown = [p for p in command.params if not p.hidden]
        expected = {opt for p in shown for opt in (*p.opts, *p.secondary_opts) if opt.startswith("-")}
        found = rows("commands.md", name)
        assert {opt for row in found for opt in re.split(r", |/", row[0]) if opt.startswith("-")} == expected, name
        required = {p.opts[0] for p in shown if p.required and p.opts[0].startswith("-")}
        assert {row[0] for row in found if row[3] == "required" and row[0].startswith("-")} == required, name


def test_markup_in_a_summary_is_shown_and_not_obeyed() -> None:
    assert reference_pages.plain("train/<class>/*.png, ``a*<b``") == "train/&lt;class>/\\*.png, `a*<b`"
    assert reference_pages.table(["a"], [["x|y"]]).endswith("| x\\|y |")


def test_the_pages_are_written_without_pytorch(tmp_path: Path) -> None:
    code = f"import sys; sys.argv = ['x', '--out', {str(tmp_path)!r}]; import reference_pages; reference_pages.main()"
    code += "; sys.exit('torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    child = subprocess.run(command, capture_output=True, text=True, cwd=ROOT / "scripts", timeout=120)
    assert child.returncode == 0, child.stderr
    assert {path.name for path in tmp_path.iterdir()} == set(reference_pages.PAGES)


def test_values_are_choices_or_a_word_for_the_type() -> None:
    def of(kind: object) -> list[str]:
        return reference_pages.value_of(kind, OptionInfo(), is_argument=False)

    assert of(Literal["a", "b"]) == of(Literal["a", "b"] | None) == ["a", "b"]
    assert of(bool) == of(bool | None) == []
    assert of(int | None) == ["INTEGER"]
    assert of(list[str] | None) == ["TEXT"]
    assert reference_pages.value_of(Path, OptionInfo(metavar="DIR"), is_argument=False) == ["DIR"]
