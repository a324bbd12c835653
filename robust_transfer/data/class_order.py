"""Classes of all splits of a data set in one order."""

from __future__ import annotations

from dataclasses import replace

import torch

from robust_transfer.data.class_names import lookalikes, match_names, matched
from robust_transfer.data.formats import StoredDataset
from robust_transfer.data.formats.base import WRITTEN, first_role, listed
from robust_transfer.errors import DataError


def in_one_order(source: StoredDataset) -> StoredDataset:
    """Data set with the classes of all splits in train's order (or its first split's); refuses what has no two of them."""
    first = first_role(source.splits)
    names = source.splits[first].class_names
    if len(names) < 2:
        raise DataError(f"{source.name} has one class only, {listed(names)}: a task needs at least 2")
    match_names(names, names, wanted_by=source.name, given_by=source.name)  # which refuses a name that is there twice
    counts = torch.bincount(source.splits[first].labels, minlength=len(names))
    for name, count in zip(names, counts.tolist(), strict=True):
        if not count and first == "train":  # a test set may lack some
            raise DataError(f"the class {name!r} has no images in the train split: add some, or remove the class")
    splits, notes = dict(source.splits), list(source.notes)
    for one, other, kind in lookalikes(names):
        notes.append(f"{one!a} and {other!a} are two classes whose names differ only in {kind}")
    for role, split in source.splits.items():
        splits[role], said = matched(split, names, given_by=WRITTEN[role])
        notes += said
    return replace(source, splits=splits, notes=tuple(notes))
