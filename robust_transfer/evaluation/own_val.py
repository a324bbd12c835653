"""Validation images of a model: those of the data whose fingerprints its card keeps, whatever the seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.data import Split, Task
from robust_transfer.data.class_names import match_names
from robust_transfer.data.duplicates import find_copies
from robust_transfer.data.fingerprints import Fingerprints, joined
from robust_transfer.data.split import joined_splits
from robust_transfer.errors import DataError
from robust_transfer.trained_on import Level


def own_val(model: Checkpoint, task: Task) -> Split:
    """Images of train and val in ``task`` that ``model`` was selected on, at its input size; notes name missing ones.

    A model whose card keeps no fingerprints gets ``task.val``, with a note. Raises :class:`DataError` where the model
    had no val images, or the data has none of them.
    """
    if model.trained_on is None:
        note = "the model's card has no fingerprints: val is what the seed cuts"
        return replace(task.val, notes=(*task.val.notes, note))
    level = model.trained_on.levels[0]
    if not len(level.val):
        raise DataError("the model was trained without val images: evaluate it on another split")
    pool = joined([task.train.fingerprints, task.val.fingerprints])
    rows, missing = _found(level, pool)
    cut = len(task.train)
    chosen = (task.train, rows[rows < cut]), (task.val, rows[rows >= cut] - cut)
    parts = [split.subset(torch.from_numpy(some)) for split, some in chosen]
    if not any(len(part) for part in parts):
        raise DataError(
            f"none of the {len(level.val)} val images of the model is in this data: give the data of its training"
        )
    notes = [f"{missing} of the {len(level.val)} val images of the model are not in this data"] if missing else []
    return replace(_together(*parts).prepared(model.preprocessing), role="val", notes=(*task.val.notes, *notes))


def _found(level: Level, pool: Fingerprints) -> tuple[NDArray[np.intp], int]:
    """Rows of ``pool`` that are val images of ``level``, and the number of missing ones.

    Images that are not found to the pixel are searched for by their look, among images that were not trained on.
    """
    same = np.isin(pool.exact, level.val.exact)
    left = level.val.take(~np.isin(level.val.exact, pool.exact))
    others = np.flatnonzero(~same & ~np.isin(pool.exact, level.train.exact))
    alike = others[find_copies(pool.take(others), left).found]
    missing = int((~find_copies(left, pool.take(others)).found).sum())
    return np.sort(np.concatenate([np.flatnonzero(same), alike])), missing


def _together(train: Split, val: Split) -> Split:
    """Concatenation of two splits; ids of the second follow those of the first where both have images."""
    if not len(val) or not len(train):
        return train if len(train) else val
    places = torch.tensor(match_names(train.class_names, val.class_names, wanted_by="train", given_by="val"))
    same = not set(train.ids.tolist()) & set(val.ids.tolist())
    first = 0 if same else int(train.ids.max()) + 1
    return joined_splits(train, val, places[val.labels], val.ids + first)
