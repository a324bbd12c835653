"""``load_task``: from the name of a data set to train, val and test splits."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from robust_transfer.data.class_names import match_names, refuse_repeated
from robust_transfer.data.encoded import EncodedReader
from robust_transfer.data.formats import ColumnNames, Role, StoredDataset, StoredSplit, open_dataset
from robust_transfer.data.formats.base import WRITTEN, listed
from robust_transfer.data.split import Split, Task
from robust_transfer.data.subsets import cut, shuffled_classes, take_shots
from robust_transfer.errors import ConfigError, DataError

log = logging.getLogger(__name__)

VAL_FRACTION = 0.1
VAL_LIMIT = 2000  # images, where the fraction is not given
_TEST_SEED = 0  # a test split that moved with the seed would test one run on what another was trained on


def load_task(
    data: str | Path,
    *,
    shots: int | None = None,
    seed: int = 0,
    val: float | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
) -> Task:
    """Load a data set and settle its train, val and test splits.

    ``data``: a folder of parquet files (``train*.parquet``, ``test*.parquet``, perhaps ``validation*.parquet``, in it
    or in its ``data/``), a single parquet file, an image folder (``train/<class>/*`` and so on, or just ``<class>/*``),
    ``builtin:digits``, ``hf:OWNER/NAME`` or ``hf:OWNER/NAME:CONFIG``.

    - test: the data's own; else its validation split; else a stratified fifth of train that is the same for every seed.
    - val: the data's own where it is not used as test; else cut from train, stratified, by ``seed``: a tenth, at most
      2,000 images. ``val`` in [0, 0.5] asks for that fraction of train (0: none) and leaves the data's own aside.
    - ``shots`` images a class, train and val together, by ``seed``: a fifth of them val, none below 5 shots.

    What the data did not settle itself stands in ``Task.notes``. Labels are int64 from 0; ids are the images' indices
    in the stored split. Images are RGB uint8, decoded now where all have one square size and fit into memory.
    Raises ConfigError for arguments out of range, DataError for data that cannot be found or used.
    """
    return Dataset(data, image_column=image_column, label_column=label_column).task(shots=shots, seed=seed, val=val)


class Dataset:
    """A data set to make several tasks of: read once, its test images (the same in every task) decoded once.

    For the arguments and the errors see :func:`load_task`; nothing is read before the first task is asked for.
    """

    def __init__(self, data: str | Path, *, image_column: str | None = None, label_column: str | None = None) -> None:
        self._where, self._columns = data, ColumnNames(image_column, label_column)

    def task(self, *, shots: int | None = None, seed: int = 0, val: float | None = None) -> Task:
        """The task of these shots, seed and val."""
        _check_arguments(shots, seed, val)
        source, held_out = self._source, self._held_out
        notes = [*source.notes, *held_out.notes]
        stored = source.splits["train"]

        own_val = "val" in source.splits and held_out.role != "val"
        pool = held_out.pool
        chosen_val = torch.arange(len(source.splits["val"].labels)) if own_val else pool[:0]
        val_from: Role = "val"
        if shots is not None or val is not None or not own_val:
            if own_val:
                notes.append("the data's own validation split is not used, as val or shots was asked for")
            val_from = "train"
            pool, chosen_val = _cut_val(stored.labels, pool, stored.class_names, shots, seed, val)

        train = _split(stored, pool)
        task = Task(
            name=source.name,
            train=train,
            val=_split(source.splits[val_from], chosen_val, like=train),
            test=held_out.test,
            notes=tuple(notes),
        )
        for note in notes:
            log.info("%s: %s", source.name, note)
        return task

    @cached_property
    def _source(self) -> StoredDataset:
        return _in_one_order(open_dataset(self._where, self._columns))

    @cached_property
    def _held_out(self) -> _HeldOut:
        source, stored = self._source, self._source.splits["train"]
        pool, notes = torch.arange(len(stored.labels)), list[str]()
        role: Role = "test" if "test" in source.splits else "val" if "val" in source.splits else "train"
        tested = torch.arange(len(source.splits[role].labels))
        if role == "val":
            notes.append("there is no test split: the validation split is used as test, and val is cut from train")
        elif role == "train":
            names = stored.class_names
            members = shuffled_classes(stored.labels, len(names), seed=_TEST_SEED, purpose="data/test")
            size = round(source.test_fraction * len(pool))
            pool, tested = cut(members, names, size, "testing: add images or a test split")
            notes.append(
                f"there is no test split: {len(tested)} images of train are set aside as test, whatever the seed"
            )
        return _HeldOut(role, _split(source.splits[role], tested), pool, tuple(notes))


class _HeldOut(NamedTuple):
    """The test images, the stored split that they come from, and what of train is left (indices)."""

    role: Role
    test: Split
    pool: Tensor
    notes: tuple[str, ...]


def _check_arguments(shots: int | None, seed: int, val: float | None) -> None:
    if shots is not None and shots < 1:
        raise ConfigError(f"shots is a number of images a class, at least 1, not {shots}")
    if val is not None and not 0 <= val <= 0.5:
        raise ConfigError(f"val is a fraction of train between 0 and 0.5, not {val}")
    if seed < 0:
        raise ConfigError(f"seed must be at least 0, not {seed}")


def _in_one_order(source: StoredDataset) -> StoredDataset:
    """The data set with the classes of all splits in train's order; refuses what cannot be learned from."""
    if "train" not in source.splits:
        present = ", ".join(WRITTEN[role] for role in source.splits)
        raise DataError(f"{source.name} has no train split to learn from, only {present}: add one")
    names = source.splits["train"].class_names
    if len(names) < 2:
        raise DataError(f"{source.name} has one class only, {listed(names)}: a task needs at least 2")
    refuse_repeated(names, source.name)
    counts = torch.bincount(source.splits["train"].labels, minlength=len(names))
    for name, count in zip(names, counts.tolist(), strict=True):
        if not count:
            raise DataError(f"the class {name!r} has no images in the train split: add some, or remove the class")
    splits, notes = dict(source.splits), list(source.notes)
    for role, split in source.splits.items():
        if split.class_names == names:
            continue
        order = match_names(names, split.class_names, f"train and {WRITTEN[role]}")
        splits[role] = replace(split, labels=torch.tensor(order)[split.labels], class_names=names)
        notes.append(f"{WRITTEN[role]} lists the classes in another order than train: matched by name")
    return replace(source, splits=splits, notes=tuple(notes))


def _cut_val(
    labels: Tensor, pool: Tensor, names: tuple[str, ...], shots: int | None, seed: int, val: float | None
) -> tuple[Tensor, Tensor]:
    """``(train, val)`` indices into the stored train split, out of those in ``pool``."""
    members = shuffled_classes(
        labels[pool], len(names), seed=seed, purpose="data/val" if shots is None else "data/shots"
    )
    if shots is not None:
        train, chosen = take_shots(members, names, shots, val)
    elif val == 0:
        return pool, pool[:0]
    else:
        size = min(round(VAL_FRACTION * len(pool)), VAL_LIMIT) if val is None else round(val * len(pool))
        train, chosen = cut(members, names, size, "val: give val=0, or add images")
    return pool[train], pool[chosen]


def _split(raw: StoredSplit, chosen: Tensor, like: Split | None = None) -> Split:
    """The images at ``chosen``, decoded now where possible. Where there are none: at the size of ``like``."""
    if not len(chosen) and like is not None and like.size is not None:
        return Split.in_memory(torch.zeros(0, 3, like.size, like.size, dtype=torch.uint8), chosen, raw.class_names)
    reader = EncodedReader(raw.images, chosen)
    split = Split(reader, torch.arange(len(chosen)), raw.labels[chosen], chosen, raw.class_names, reader.native_size)
    return split if split.size is None else split.at_size(split.size)
