"""Cells given up because their workers died: listed in the table and the report, tried again by the next start."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from robust_transfer.files import write_json
from robust_transfer.texts import read_json

FILE = "given_up.json"
GIVEN_UP = "given up"  # begins the reason of such a cell


def read_given_up(folder: Path) -> dict[str, str]:
    """Reason for each cell, by its evaluation's address; meaningless for cells made since."""
    path = folder / FILE
    return dict(read_json(path)) if path.exists() else {}


def note_given_up(folder: Path, tried: Collection[str], given_up: Mapping[str, str]) -> None:
    """Record which of ``tried`` (addresses) were ``given_up``; other entries stay."""
    before = read_given_up(folder)
    now = {key: why for key, why in before.items() if key not in tried} | dict(given_up)
    if now != before:
        write_json(folder / FILE, now)
