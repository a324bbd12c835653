"""Placeholder of the interface; the reader itself is written beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Inert:
    """Object that was not made."""

    name: str


@dataclass(frozen=True)
class Contents:
    """What a file holds."""

    tree: Any
    format: str
    refused: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
