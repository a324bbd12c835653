"""Fingerprints of the images that a network, its source, and the source's source were trained on.

A checkpoint keeps them in a file of its own, and passes them on to its descendants; so an evaluation can tell which
of its images were trained on from the checkpoint alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from robust_transfer.data import Task
from robust_transfer.data.fingerprints import BYTES, NONE, Fingerprints, joined
from robust_transfer.errors import CheckpointError

FINGERPRINTS = "fingerprints.safetensors"


@dataclass(frozen=True, eq=False)
class Level:
    """Images that weights were fitted to (``train``), and those that settings or epochs were chosen by (``val``)."""

    train: Fingerprints
    val: Fingerprints = NONE


@dataclass(frozen=True, eq=False)
class TrainedOn:
    """``levels``: of the network itself, of its source, of the source's source, and so on.

    Not ``complete``: further sources exist without fingerprints.
    """

    levels: tuple[Level, ...]
    complete: bool = True

    def to_bytes(self) -> bytes:
        """Content of the file: uint8 ``(n, 32)`` for each level and split, each image once, sorted."""
        tensors = {f"{i}/{name}": getattr(level, name).as_set().rows for i, level in enumerate(self.levels)
                   for name in ("train", "val")}  # fmt: skip
        return bytes(save(tensors, {"complete": str(self.complete).lower()}))

    def record(self, content: bytes) -> dict[str, Any]:
        """Record for the card of the file with this ``content``."""
        counts = [{"train": len(level.train), "val": len(level.val)} for level in self.levels]
        return {"hash": hashlib.sha256(content).hexdigest(), "levels": counts, "complete": self.complete}


def trained_on(task: Task, source: TrainedOn | None = None, *, transferred: bool = False) -> TrainedOn:
    """Images seen by a network made on ``task``; ``transferred`` from a source that has seen ``source`` (None: unknown)."""
    own = Level(task.train.fingerprints.as_set(), task.val.fingerprints.as_set())
    if not transferred:
        return TrainedOn((own,))
    return TrainedOn((own, *(source.levels if source else ())), source is not None and source.complete)


def merged(a: TrainedOn | None, b: TrainedOn | None) -> TrainedOn | None:
    """Images seen by a mixture of two networks, level by level; None where one of them is unknown."""
    if a is None or b is None:
        return None
    empty = Level(NONE)
    depth = max(len(a.levels), len(b.levels))
    pairs = [((*a.levels, *[empty] * depth)[i], (*b.levels, *[empty] * depth)[i]) for i in range(depth)]
    levels = (Level(joined([x.train, y.train]).as_set(), joined([x.val, y.val]).as_set()) for x, y in pairs)
    return TrainedOn(tuple(levels), a.complete and b.complete)


def read_trained_on(content: bytes, record: dict[str, Any], where: str) -> TrainedOn:
    """Parse the file's content with the card's record of it; raises :class:`CheckpointError` where they disagree."""
    if hashlib.sha256(content).hexdigest() != record.get("hash"):
        raise CheckpointError(f"{where} is not the file that its card describes (the hash differs): get both again")
    try:
        tensors = load(content)
        levels = [
            Level(*(_rows(tensors[f"{i}/{name}"]) for name in ("train", "val"))) for i in range(len(tensors) // 2)
        ]
        return TrainedOn(tuple(levels), bool(record.get("complete", True)))
    except (SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"{where} holds no fingerprints ({type(error).__name__}): get it again") from None


def _rows(tensor: Any) -> Fingerprints:
    if tensor.dtype != np.uint8 or tensor.ndim != 2 or tensor.shape[1] != BYTES:
        raise ValueError("not fingerprints")
    return Fingerprints(tensor)
