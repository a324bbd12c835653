"""Tables with an image and a label column, from parquet files or from the Hub, to stored splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch import Tensor

from robust_transfer.data.class_names import match_names
from robust_transfer.data.encoded import ChosenImages, ColumnImages, Images
from robust_transfer.data.formats.base import WRITTEN, Role, StoredSplit, first_role
from robust_transfer.data.formats.labels import all_hidden, class_values, named_indices, value_indices
from robust_transfer.errors import DataError


@dataclass(frozen=True)
class Table:
    """Images (or a pyarrow column of them) and labels (a pyarrow column) of one split.

    With class names if its ClassLabel feature holds them.
    """

    images: Any
    labels: Any
    class_names: tuple[str, ...] | None


def divided(table: Table, roles: Sequence[Role], called: str, folder: Path | None) -> dict[Role, Table]:
    """Table of each split that ``roles`` give the rows of one that messages call ``called``."""
    images, said = ColumnImages(table.images, called, folder), np.array(roles)
    rows = {role: np.flatnonzero(said == role) for role in dict.fromkeys(roles)}
    return {
        role: Table(ChosenImages(images, mine.tolist()), table.labels.take(pa.array(mine)), table.class_names)
        for role, mine in rows.items()
    }


def in_one_order(
    labels: Sequence[Any], names: Sequence[tuple[str, ...] | None], files: Sequence[str]
) -> tuple[list[Any], list[str]]:
    """Label columns of one split's files, renumbered by the first file's class names; and notes on the mapping.

    Raises :class:`DataError` where some files name their classes and others count without names, or the names differ.
    """
    first = names[0]
    columns, notes = list(labels), list[str]()
    for number, (column, own) in enumerate(zip(labels, names, strict=True)):
        if own == first:
            continue
        if first is None or own is None:
            named, bare = (files[number], files[0]) if first is None else (files[0], files[number])
            raise DataError(
                f"{named} names its classes and {bare} does not, so their labels may mean different classes: "
                "write both with the same ClassLabel"
            )
        order = match_names(first, own, wanted_by=files[0], given_by=files[number])
        if pa.types.is_integer(column.type) and (pc.max(column).as_py() or 0) < len(
            own
        ):  # else it is told later, by its row
            mapped = pc.take(pa.array(order, pa.int64()), pc.if_else(pc.less(column, 0), None, column))
            columns[number] = pc.coalesce(mapped, column.cast(pa.int64()))
        notes.append(f"{files[number]} lists the classes in another order than {files[0]}: matched by name")
    return columns, notes


def stored_splits(
    tables: Mapping[Role, Table], folder: Path | None = None
) -> tuple[dict[Role, StoredSplit], list[str]]:
    """Checked splits, and notes on omissions. ``folder``: the base of relative image paths.

    Without stored names the classes are the sorted distinct labels of train, named by their values; without a train
    split, those of the evaluated split.
    """
    tables, notes = dict(tables), []
    if "test" in tables and len(tables) > 1 and all_hidden(tables["test"].labels):
        del tables["test"]
        notes.append("the labels of the test split are hidden (-1): it is not used")
    for role, table in tables.items():
        if not len(table.labels):
            raise DataError(f"the {WRITTEN[role]} split is empty: add images to it, or remove it")
    first = first_role(tables)
    known = tables[first].class_names
    values = None if known else class_values(tables[first].labels, WRITTEN[first])

    def labels_of(role: Role, table: Table) -> tuple[Tensor, tuple[str, ...]]:
        if table.class_names is not None:
            return named_indices(table.labels, WRITTEN[role], table.class_names), table.class_names
        if values is None:
            names = known or ()
            if pa.types.is_integer(table.labels.type):
                notes.append(
                    f"the labels of the {WRITTEN[role]} split are numbers without names: "
                    "taken to count the classes that train names, in train's order"
                )
            return named_indices(table.labels, WRITTEN[role], names), names
        return value_indices(table.labels, WRITTEN[role], values), tuple(str(value) for value in values)

    splits: dict[Role, StoredSplit] = {}
    for role, table in tables.items():
        labels, names = labels_of(role, table)
        held = table.images
        images = held if isinstance(held, Images) else ColumnImages(held, f"the {WRITTEN[role]} split", folder)
        splits[role] = StoredSplit(images, labels, names)
    return splits, notes
