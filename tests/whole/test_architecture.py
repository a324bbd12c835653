"""One road: a file imports only what is listed above it. `__init__` and `cli` stand outside the order."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import robust_transfer

ORDER = (
    "errors",
    "defaults",
    "shown",
    "messages",
    "texts",
    "registry",
    "config",
    "presets",
    "files",
    "launch",
    "manifest",
    "run_folder",
    "hardware",
    "allocation",
    "environment",
    "progress",
    "tracking",
    "run",
    "download",
    "compiling",
    "cache",
    "randomness",
    "threat",
    "cost",
    "provenance",
    "losses",
    "preprocessing",
    "modes",
    "networks",
    "mixed_head",
    "heads",
    "modules",
    "classifier",
    "mixture",
    "activations",
    "data",
    "trained_on",
    "undrawn",
    "weights_file",
    "checkpoint",
    "statistics",
    "foreign",
    "sources",
    "training",
    "pass_sizes",
    "engine",
    "attacks",
    "remembered",
    "trials",
    "monitor",
    "production",
    "pretraining",
    "drawing",
    "strategies",
    "certification",
    "corruptions",
    "evaluation",
    "prediction",
    "exporting",
    "publishing",
    "drop_in",
    "estimator",
    "comparison",
    "choosing",
    "ranking",
    "analysis",
    "study",
    "demo",
    "doctor",
    "report",
)
OUTSIDE = {"__init__", "cli"}
ROOT = Path(robust_transfer.__file__).parent


def room(path: Path) -> str:
    """The entry of ORDER that a file belongs to."""
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imported(source: str) -> Iterator[str]:
    """The rooms that a file imports, inside functions and under TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = ["robust_transfer.(relative)"]  # ruff's TID bans these above a folder; here all are
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "robust_transfer":
                yield parts[1] if len(parts) > 1 else "__init__"


def complaint(name: str, other: str) -> str | None:
    """Why a file of room ``name`` may not import from ``other``, or None."""
    if other not in ORDER:
        return f"imports robust_transfer.{other}, which is not in the order"
    if ORDER.index(other) > ORDER.index(name):
        return f"imports {other}, which stands below {name}"
    return None


FILES = sorted(path for path in ROOT.rglob("*.py") if room(path) not in OUTSIDE)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_what_is_above_it(path: Path) -> None:
    assert room(path) in ORDER, f"{room(path)} has no place in the order yet: give it one"
    found = {complaint(room(path), other) for other in imported(path.read_text())} - {None}
    assert not found


def test_the_reading_itself() -> None:
    source = """
import robust_transfer.run
from robust_transfer import losses, networks as n
from robust_transfer.data.split import Split
from . import x
def f():
    from robust_transfer.strategies import LwF
    import torch
"""
    assert list(imported(source)) == ["run", "losses", "networks", "data", "(relative)", "strategies"]
    assert complaint("data", "run") is None
    assert complaint("data", "data") is None
    assert complaint("run", "data") == "imports data, which stands below run"
    assert complaint("run", "cli") == "imports robust_transfer.cli, which is not in the order"
    assert {"errors", "training", "attacks", "pretraining"} <= {room(path) for path in FILES}


def test_the_order_names_each_room_once() -> None:
    assert len(set(ORDER)) == len(ORDER)


def test_the_page_on_design_lists_the_rooms_in_their_order() -> None:
    page = (Path(__file__).parents[2] / "docs" / "design.md").read_text(encoding="utf-8")
    rooms = re.findall(r"^\| `([a-z_]+)` \|", page, re.MULTILINE)
    assert tuple(rooms) == (*ORDER, "cli")
