"""Copies between two splits, and copies with different labels in one: detection, notes, removal."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from robust_transfer.data.decoded import Decoded
from robust_transfer.data.duplicates import Copies, find_copies
from robust_transfer.errors import DataError

Part = tuple[Decoded, Tensor]  # a stored split, and the indices of some of its images
SHOWN = 2  # examples in a note


class Parts(NamedTuple):
    """Images of train, val and test."""

    train: Part
    val: Part
    test: Part


def across(parts: Parts) -> list[str]:
    """One sentence per pair of splits that share images, exactly or re-encoded."""
    pairs = (
        ("test", parts.test, "train", parts.train),
        ("test", parts.test, "val", parts.val),
        ("val", parts.val, "train", parts.train),
    )
    return [note for a, one, b, other in pairs if (note := _shared(a, one, b, other)) is not None]


def leave_out(parts: Parts) -> tuple[Parts, list[str]]:
    """Parts without shared images, and notes: train loses copies of val and test, val those of test."""
    val, from_val = _without(parts.val, [parts.test])
    train, from_train = _without(parts.train, [parts.test, (parts.val[0], val)])
    classes = len(parts.train[0].class_names)
    for label in np.flatnonzero(np.bincount(parts.train[0].labels[train].numpy(), minlength=classes) == 0):
        name = parts.train[0].class_names[label]
        raise DataError(f"the class {name!r} has nothing in train but copies of val and test: add images to train")
    notes = [
        f"{count} images of {split} are left out, as they are copies of images of {others}, exact or re-encoded"
        for count, split, others in ((from_train, "train", "val and test"), (from_val, "val", "test"))
        if count
    ]
    return Parts((parts.train[0], train), (parts.val[0], val), parts.test), notes


def contradictions(stored: Decoded) -> list[str]:
    """Sentence on exact copies with different labels."""
    exact, labels = stored.fingerprints.exact, stored.labels.numpy()
    pairs = np.unique(np.stack([exact, labels.astype(np.uint64)]), axis=1)
    contents, labellings = np.unique(pairs[0], return_counts=True)
    both = np.isin(exact, contents[labellings > 1])
    if not both.any():
        return []
    first = np.flatnonzero(both)[0]
    other = np.flatnonzero((exact == exact[first]) & (labels != labels[first]))[0]
    where = f"{stored.images.where(int(first))} and {stored.images.where(int(other))}"
    return [f"{int(both.sum())} images of train have exact copies with another label (such as {where})"]


def _copies(one: Part, other: Part) -> Copies:
    (a, rows), (b, others) = one, other
    return find_copies(a.fingerprints.take(rows.numpy()), b.fingerprints.take(others.numpy()))


def _shared(a: str, one: Part, b: str, other: Part) -> str | None:
    copies = _copies(one, other)
    rows = np.flatnonzero(copies.found)
    if not len(rows):
        return None
    alike = int((~copies.exact[rows]).sum())
    how = "exactly" if not alike else "re-encoded or resized" if alike == len(rows) else f"{alike} of them re-encoded"
    shown = [
        f"{one[0].images.where(int(one[1][row]))} = {other[0].images.where(int(other[1][copies.partner[row]]))}"
        for row in rows[:SHOWN]
    ]
    return (
        f"{len(rows)} of {len(copies.found)} {a} images are in {b} too, {how} (such as {'; '.join(shown)}): "
        "duplicates=drop leaves them out of training"
    )


def _without(part: Part, others: list[Part]) -> tuple[Tensor, int]:
    found = np.zeros(len(part[1]), bool)
    for other in others:
        found |= _copies(part, other).found
    return part[1][torch.from_numpy(~found)], int(found.sum())
