"""Tables with an image and a label column, from parquet files or from the Hub, to raw splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from robust_transfer.data.encoded import ColumnImages
from robust_transfer.data.labels import all_hidden, class_values, named_indices, value_indices
from robust_transfer.data.source import WRITTEN, RawSplit, Role
from robust_transfer.errors import DataError


@dataclass(frozen=True)
class Columns:
    """pyarrow columns of one split, and the names of its classes where its ClassLabel feature holds them."""

    images: Any
    labels: Any
    class_names: tuple[str, ...] | None


def class_names(feature: Any) -> tuple[str, ...] | None:
    """The names that a ClassLabel feature of HF datasets holds; None for other features."""
    from datasets import ClassLabel

    return tuple(feature.names) if isinstance(feature, ClassLabel) and feature.names else None


def raw_splits(tables: Mapping[Role, Columns], folder: Path | None = None) -> tuple[dict[Role, RawSplit], list[str]]:
    """Checked splits, and notes on what was left out. ``folder``: what relative image paths are relative to.

    Without stored names the classes are the distinct labels of train, in order, called what they are.
    """
    tables, notes = dict(tables), []
    if "test" in tables and len(tables) > 1 and all_hidden(tables["test"].labels):
        del tables["test"]
        notes.append("the labels of the test split are hidden (-1): it is not used")
    if "train" not in tables:
        present = ", ".join(WRITTEN[role] for role in tables)
        raise DataError(f"there is no train split to learn from, only {present}: add one")
    for role, table in tables.items():
        if not len(table.labels):
            raise DataError(f"the {WRITTEN[role]} split is empty: add images to it, or remove it")
    values = None if tables["train"].class_names else class_values(tables["train"].labels, "train")

    def labels_of(role: Role, table: Columns) -> tuple[Tensor, tuple[str, ...]]:
        if table.class_names is not None:
            return named_indices(table.labels, WRITTEN[role], table.class_names), table.class_names
        if values is None:  # train's features have names, this split's have not: they count the same classes
            names = tables["train"].class_names or ()
            return named_indices(table.labels, WRITTEN[role], names), names
        return value_indices(table.labels, WRITTEN[role], values), tuple(str(value) for value in values)

    splits: dict[Role, RawSplit] = {}
    for role, table in tables.items():
        labels, names = labels_of(role, table)
        splits[role] = RawSplit(ColumnImages(table.images, WRITTEN[role], folder), labels, names)
    return splits, notes
