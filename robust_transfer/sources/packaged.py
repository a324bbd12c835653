"""Packaged sources: robust ones, and the natural twin of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from robust_transfer.errors import CheckpointError
from robust_transfer.sources.base import SOURCES, SourceKind

if TYPE_CHECKING:
    from robust_transfer.checkpoint import Checkpoint

BUNDLED, BUNDLED_64, NATURAL = "bundled", "bundled-64", "natural"
PACKAGED = (BUNDLED, BUNDLED_64, NATURAL)
_PACKAGE = Path(__file__).resolve().parents[1] / "weights"


def card_of(name: str) -> Path:
    """Path of the card of a packaged source; missing where the source is not installed."""
    return _PACKAGE / name / "card.json"


def load_packaged(name: str) -> Checkpoint:
    """Packaged source. Raises :class:`CheckpointError` where it is not installed."""
    from robust_transfer.checkpoint import load_checkpoint

    if not card_of(name).is_file():
        raise CheckpointError(f"this installation has no {name} source: give a run folder")
    return load_checkpoint(_PACKAGE / name)


@SOURCES.register(
    "'bundled', 'bundled-64', 'natural'",
    summary="robust networks for images of 32x32 and of 64x64 pixels, and the natural twin of the first",
    paper="",
)
class Packaged(SourceKind):
    """Packaged networks."""

    @override
    def takes(self, name: str) -> bool:
        return name in PACKAGED

    @override
    def load(self, name: str) -> Checkpoint:
        return load_packaged(name)

    @override
    def listed(self) -> dict[str, str]:
        lines = {name: _summary(card_of(name)) for name in PACKAGED}
        if (_PACKAGE / NATURAL).is_dir():
            lines[NATURAL] += f": the control, not robust, to compare {BUNDLED} with"
        return lines

    @override
    def suggestions(self, name: str) -> list[str]:
        return list(PACKAGED)


def _summary(card: Path) -> str:
    if not card.is_file():
        return "not in this installation"
    raw = json.loads(card.read_text(encoding="utf-8"))
    network, data, threat = (
        raw["network"],
        raw["data"].get("name", "unknown data"),
        raw["threat"] or "no threat",
    )
    return f"{network['name']}, {raw['method']} on {data} for {threat}, {network['preprocessing']['size']} pixels"
