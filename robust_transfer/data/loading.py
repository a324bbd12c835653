"""``load_task``: from the name of a data set to train, val and test splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from types import NoneType
from typing import Literal, cast

import torch

from robust_transfer.config import expect
from robust_transfer.data.class_order import in_one_order
from robust_transfer.data.cutting import HeldOut, cut_val, held_out
from robust_transfer.data.decoded import Decoded
from robust_transfer.data.formats import ColumnNames, Role, StoredDataset, open_dataset
from robust_transfer.data.formats.base import first_role
from robust_transfer.data.objects import HINT, Objects, is_object, stored_objects
from robust_transfer.data.shared import Parts, across, contradictions, leave_out
from robust_transfer.data.split import Split, Task
from robust_transfer.errors import ConfigError, DataError
from robust_transfer.messages import logger
from robust_transfer.preprocessing import Preprocessing

log = logger(__name__)

Duplicates = Literal["keep", "drop"]


def load_task(
    data: str | Path | Objects,
    *,
    shots: int | None = None,
    seed: int = 0,
    val: float | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    class_names: Sequence[str] | None = None,
    duplicates: Duplicates = "keep",
    prepare: Preprocessing | None = None,
) -> Task:
    """Load a data set and settle its train, val and test splits.

    ``data``: a folder of parquet files (``train*.parquet``, ``test*.parquet``, perhaps ``validation*.parquet``, in it
    or in its ``data/``), a single parquet file, an image folder (``train/<class>/*`` and so on, or just ``<class>/*``), a
    CSV, TSV or JSON lines file of image files and labels, an archive of these, ``builtin:digits``, ``hf:OWNER/NAME`` or
    ``hf:OWNER/NAME:CONFIG``. Or what Python holds: a list of ``(path, label)``, or of ``(picture, label)`` with
    pictures of PIL or arrays, a tuple ``(images, labels)`` of uint8
    arrays, ``(n, H, W, C)`` or ``(n, C, H, W)``, a ``torch.utils.data.Dataset`` of ``(image, label)``; each is train, unless
    they stand in a dict by split, ``{"train": ..., "test": ...}``. ``class_names``: what their labels count, if these are
    numbers and the data set has no ``classes``.

    - test: the data's own; else its validation split; else about a fifth of train that is the same for every seed.
    - val: the data's own where it is not used as test; else cut from train by ``seed``: a tenth, about 2,000 images at
      most. ``val`` in [0, 0.5] asks for that fraction of train (0: none) and leaves the data's own aside.
    - ``shots`` images a class, train and val together, by ``seed``: a fifth of them val, none below 5 shots.

    What is cut or drawn from train is settled by each image's content and by nothing else (see
    :mod:`robust_transfer.data.membership`): sizes are about the fractions, every class is on both sides, data that grows
    or is stored in another way without loss keeps its test images, and exact copies stay together. Copies of test images
    in train, exact or re-encoded, are noted; with ``duplicates="drop"`` they are left out of train and val.

    A data set without a train split can be evaluated on: train is empty then.

    ``prepare``: what a network reads that will be trained on the task. Images of different sizes are then decoded once,
    and not a second time by ``task.prepared(prepare)``, if they fit into memory as it reads them.

    What the data did not settle itself stands in ``Task.notes``. Labels are int64 from 0; ids are the images' indices
    in the stored split. Images are RGB uint8, decoded now where all have one square size and fit into memory.
    Raises ConfigError for arguments out of range, DataError for data that cannot be found or used.
    """
    dataset = Dataset(
        data,
        image_column=image_column,
        label_column=label_column,
        split_column=split_column,
        class_names=class_names,
        prepare=prepare,
    )
    return dataset.task(shots=shots, seed=seed, val=val, duplicates=duplicates)


class Dataset:
    """Data set to make several tasks of: read once, its test images (the same in every task) decoded once.

    For the arguments and the errors see :func:`load_task`; nothing is read before the first task is asked for.
    """

    def __init__(
        self,
        data: str | Path | Objects,
        *,
        image_column: str | None = None,
        label_column: str | None = None,
        split_column: str | None = None,
        class_names: Sequence[str] | None = None,
        prepare: Preprocessing | None = None,
    ) -> None:
        self._data, self._prepare, self._class_names = data, prepare, class_names
        self._columns = ColumnNames(image_column, label_column, split_column)

    def task(
        self,
        *,
        shots: int | None = None,
        seed: int = 0,
        val: float | None = None,
        duplicates: Duplicates = "keep",
    ) -> Task:
        """Task of these shots, seed and val."""
        _check_arguments(shots, seed, val, duplicates)
        if "train" not in self._source.splits:
            return self._without_train(shots, val)
        source, held_out = self._source, self._held_out
        notes = [*source.notes, *held_out.notes]
        stored = self._decoded["train"]

        own_val = "val" in source.splits and held_out.role != "val"
        pool = held_out.pool
        chosen_val = torch.arange(len(source.splits["val"].labels)) if own_val else pool[:0]
        val_from: Role = "val"
        if shots is not None or val is not None or not own_val:
            if own_val:
                notes.append("the data's own validation split is not used, as val or shots was asked for")
            val_from = "train"
            pool, chosen_val, told = cut_val(stored, pool, shots, seed, val)
            notes += told
        parts = Parts(
            (stored, pool), (self._decoded[val_from], chosen_val), (self._decoded[held_out.role], held_out.tested)
        )
        parts, found = leave_out(parts) if duplicates == "drop" else (parts, across(parts))
        notes += [*found, *self._contradictions]

        all_notes = tuple(notes)
        train = stored.split(parts.train[1], "train", all_notes)
        task = Task(
            name=source.name,
            train=train,
            val=self._decoded[val_from].split(parts.val[1], "val", all_notes, like=train),
            test=replace(self._test, notes=all_notes),
            notes=all_notes,
        )
        for note in notes:
            log.info("%s: %s", source.name, note)
        return task

    def _without_train(self, shots: int | None, val: float | None) -> Task:
        """Task for evaluation only."""
        source, held_out = self._source, self._held_out
        if shots is not None or val:
            raise DataError(f"{source.name} has no train split to draw shots or val from: leave shots and val out")
        only = f"there is no train split: {source.name} can be evaluated on, and not learned from"
        notes = (*source.notes, *held_out.notes, only)
        for note in notes:
            log.info("%s: %s", source.name, note)
        test = replace(self._test, notes=notes)
        none = replace(test.subset(torch.arange(0)), role=None)
        own_val = none
        if "val" in source.splits and held_out.role != "val":
            own_val = self._decoded["val"].split(torch.arange(len(source.splits["val"].labels)), "val", notes)
        return Task(source.name, replace(none, role="train"), own_val, test, notes)

    @property
    def test(self) -> Split:
        """Test images, the same in every task; where the data has its own, nothing else is read for them."""
        return self._test

    @cached_property
    def _source(self) -> StoredDataset:
        data = self._data
        if is_object(data):
            self._columns.refuse("data that is in memory")
            return in_one_order(stored_objects(cast(Objects, data), self._class_names))
        expect("data", data, str, PathLike, hint=HINT)
        if self._class_names is not None:
            raise ConfigError(
                "class_names are of data that is in memory: files and names have their own, so leave it out"
            )
        return in_one_order(open_dataset(cast(str | Path, data), self._columns))

    @cached_property
    def _decoded(self) -> dict[Role, Decoded]:
        ahead = self._prepare.geometry if self._prepare is not None else None
        return {
            role: Decoded(split.images, split.labels, split.class_names, ahead if role != "test" else None)
            for role, split in self._source.splits.items()
        }

    @cached_property
    def _contradictions(self) -> list[str]:
        return contradictions(self._decoded["train"])

    @cached_property
    def _test(self) -> Split:
        return self._decoded[self._held_out.role].split(self._held_out.tested, "test")

    @cached_property
    def _held_out(self) -> HeldOut:
        return held_out(self._source, self._decoded[first_role(self._source.splits)])


def _check_arguments(shots: int | None, seed: int, val: float | None, duplicates: str) -> None:
    expect("shots", shots, Integral, NoneType)
    expect("val", val, Real, NoneType)
    expect("seed", seed, Integral)
    if duplicates not in ("keep", "drop"):
        raise ConfigError(f"duplicates are to be 'keep' or 'drop', not {duplicates!r}")
    if shots is not None and shots < 1:
        raise ConfigError(f"shots is a number of images a class, at least 1, not {shots}")
    if val is not None and not 0 <= val <= 0.5:
        raise ConfigError(f"val is a fraction of train between 0 and 0.5, not {val}")
    if seed < 0:
        raise ConfigError(f"seed must be at least 0, not {seed}")
