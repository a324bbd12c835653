"""What every place that data comes from gives: its splits as they are there, images not yet decoded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from robust_transfer.data.encoded import Images

Role = Literal["train", "val", "test"]
WRITTEN: dict[Role, str] = {"train": "train", "val": "validation", "test": "test"}  # as messages and HF call them

ROLES: dict[str, Role] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class RawSplit:
    """Images, their labels (int64 ``(n,)``) and the names of the classes, in label order."""

    images: Images
    labels: Tensor
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """A data set as it is stored. Where there is nothing to test on, ``test_fraction`` of train becomes test."""

    name: str
    splits: Mapping[Role, RawSplit]
    notes: tuple[str, ...] = field(default=())
    test_fraction: float = 0.2


def role_of(name: str) -> Role | None:
    """The split that a file or folder name speaks of ("train-00000-of-00002" -> "train"), or None."""
    words = re.split(r"[^a-z]+", name.casefold())
    return next((ROLES[word] for word in words if word in ROLES), None)


def listed(names: Iterable[str], most: int = 6) -> str:
    """``'a', 'b' and 3 more``."""
    quoted = [repr(name) for name in names]
    shown = ", ".join(quoted[:most])
    return f"{shown} and {len(quoted) - most} more" if len(quoted) > most else shown
