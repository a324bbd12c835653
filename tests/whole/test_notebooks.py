"""Notebooks: they are stored without outputs and name what exists; a slow test runs each of them from top to bottom."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

import robust_transfer as rt

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
# What each shows: a piece of its outputs, and how many plots.
SHOWN = {
    "bring_your_own_network": (("clean accuracy", "through source", "True"), 0),
    "choosing_an_operating_point": (("most accurate on val", "keep=0.5"), 1),
    "how_far_to_trust_a_number": (("strong ", "doubt ", "the claim stands", "the claim does not stand"), 1),
    "own_folder": (("100 test images", "robust accuracy"), 1),
}


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)  # type: ignore[no-untyped-call]


def complaints(notebook: Any) -> list[str]:
    """What is wrong with a notebook as it is stored."""
    nbformat.validate(notebook)
    found = []
    for cell in notebook.cells:
        found += [
            f"there is no rt.{name}" for name in re.findall(r"\brt\.(\w+)", cell.source) if name not in rt.__all__
        ]
        if cell.cell_type == "code":
            ast.parse(cell.source)
            found += ["a cell has outputs"] if cell.outputs or cell.execution_count is not None else []
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_stored_without_outputs_and_names_what_exists(path: Path) -> None:
    assert not complaints(read(path))
    assert path.stem in SHOWN


def test_what_is_wrong_is_found() -> None:
    notebook = read(NOTEBOOKS[0])
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code")
    cell.source, cell.execution_count = "rt.evaluated(rt.Run())", 1
    assert complaints(notebook) == ["there is no rt.evaluated", "a cell has outputs"]
    cell.source = "rt.evaluate("
    with pytest.raises(SyntaxError):
        complaints(notebook)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SHOWN))
def test_it_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parent))  # of the kernel
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = read(FOLDER / f"{name}.ipynb")
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.get("name") == "stderr"], "no warnings, no bars"
    data = [output.get("data", {}) for output in outputs]
    text = "".join(output.get("text", "") for output in outputs) + "".join(each.get("text/plain", "") for each in data)
    pieces, plots = SHOWN[name]
    assert [piece for piece in pieces if piece not in text] == [], text
    assert sum("image/png" in each or "image/svg+xml" in each for each in data) == plots
