"""Conversion of stored labels (class numbers, names) to class indices, with an error message for each defect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from robust_transfer.data.class_names import alike
from robust_transfer.errors import DataError


def class_values(column: Any, split: str) -> list[Any]:
    """Sorted distinct labels of a pyarrow column without stored class names: the classes of the data."""
    values: list[Any] = sorted(pc.unique(checked(column, split)).to_pylist())
    return values


def checked(column: Any, split: str) -> Any:
    """``column`` as int64 or string labels, none missing, none negative; else DataError."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.string())
    whole = pa.types.is_integer(column.type)
    if not whole and not pa.types.is_string(column.type) and not pa.types.is_large_string(column.type):
        raise DataError(
            f"the labels of the {split} split are of type {column.type}: "
            "each image needs one label, a whole number or a name"
        )
    row = _first(pc.is_null(column))
    if row is not None:
        raise DataError(f"{_row(row, split)} has no label: give it one, or remove the row")
    if not whole:
        return column
    try:
        column = column.cast(pa.int64())
    except pa.ArrowInvalid:
        largest = pc.max(column).as_py()
        raise DataError(f"the {split} split has the label {largest}: class numbers count from 0") from None
    row = _first(pc.less(column, 0))
    if row is not None:
        raise DataError(
            f"{_row(row, split)} has the label {column[row].as_py()}: a negative label marks an image "
            "of unknown class; remove such rows, or give them their labels"
        )
    return column


def named_indices(column: Any, split: str, names: Sequence[str]) -> Tensor:
    """int64 ``(n,)`` from a column of class numbers whose classes are called ``names``."""
    labels = checked(column, split)
    if not pa.types.is_integer(labels.type):
        return value_indices(labels, split, names)
    row = _first(pc.greater_equal(labels, len(names)))
    if row is not None:
        raise DataError(
            f"{_row(row, split)} has the label {labels[row].as_py()}, but there are {len(names)} classes "
            f"(0 to {len(names) - 1}): correct the label or the list of class names"
        )
    return torch.from_numpy(np.array(labels.to_numpy(), np.int64))


def value_indices(column: Any, split: str, values: Sequence[Any]) -> Tensor:
    """int64 ``(n,)``: each label's index in ``values``."""
    labels = checked(column, split)
    known = pa.array(values)
    if pa.types.is_integer(labels.type) != pa.types.is_integer(known.type):
        raise DataError(
            f"the labels of the {split} split are of type {labels.type}, those of train of type {known.type}: "
            "store them alike"
        )
    indices = pc.index_in(labels, value_set=known.cast(labels.type))
    row = _first(pc.is_null(indices))
    if row is not None:
        name = str(labels[row].as_py())
        close = alike(name, [str(value) for value in values])
        differ = f" ({name!a} and {close[0]!a} differ only in {close[1]})" if close else ""
        raise DataError(
            f"{_row(row, split)} is of the class {name!r}, which train does not have{differ}: "
            "the splits must have the same classes"
        )
    return torch.from_numpy(np.array(indices.to_numpy(), np.int64))


def all_hidden(column: Any) -> bool:
    """True if every label is -1, as in test splits whose labels are kept secret."""
    return bool(pa.types.is_integer(column.type) and len(column) and pc.all(pc.equal(column, -1)).as_py())


def _first(mask: Any) -> int | None:
    """First row where ``mask`` is true."""
    row: int = pc.index(mask, True).as_py()
    return row if row >= 0 else None


def _row(row: int, split: str) -> str:
    return f"row {row} (from 0) of the {split} split"
