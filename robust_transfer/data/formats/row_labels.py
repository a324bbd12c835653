"""Labels in text tables: one kind for the whole data set, as a pyarrow column."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from robust_transfer.errors import DataError

_WHOLE = re.compile(r"0|-?[1-9]\d{0,17}")
_WITH_POINT = re.compile(r"(0|-?[1-9]\d{0,17})\.0+")


def is_empty(cell: Any) -> bool:
    """True for a cell that holds no label."""
    return (
        cell is None or (isinstance(cell, str) and not cell.strip()) or (isinstance(cell, float) and math.isnan(cell))
    )


def numbers_or_names(cells: Sequence[Any]) -> tuple[list[Any], list[str]]:
    """All labels of a data set, without empty ones, as whole numbers or else as names; and notes.

    Labels are numbers if all of them are written as whole numbers: "01" is a name. Raises :class:`DataError` for
    fractions, and for a mixture of numbers and names.
    """
    if all(isinstance(cell, str) for cell in cells):
        return _of_text(cells)
    if all(isinstance(cell, bool) for cell in cells):
        return ["true" if cell else "false" for cell in cells], []
    kinds = sorted({_called(cell) for cell in cells})
    if kinds != ["whole numbers"]:
        raise DataError(f"the labels are {' and '.join(kinds)}: each image needs one, all whole numbers or all names")
    return list(cells), []


def as_column(values: Sequence[Any]) -> Any:
    """Column from the output of :func:`numbers_or_names`."""
    return pa.array(values, pa.int64() if values and isinstance(values[0], int) else pa.string())


def _of_text(cells: Sequence[str]) -> tuple[list[Any], list[str]]:
    kinds = set(cells)
    if all(_WHOLE.fullmatch(kind) for kind in kinds):
        return [int(cell) for cell in cells], []
    if all(_WITH_POINT.fullmatch(kind) for kind in kinds):
        return [int(cell.partition(".")[0]) for cell in cells], ["labels such as '1.0' are taken for whole numbers"]
    if all(_is_fraction(kind) for kind in kinds) and not all(kind.isdigit() for kind in kinds):
        shown = next(kind for kind in cells if not _WHOLE.fullmatch(kind))
        raise DataError(f"the labels are fractions, such as {shown!r}: each image needs one, a whole number or a name")
    return list(cells), []


def _is_fraction(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _called(cell: Any) -> str:
    if isinstance(cell, bool):
        return "true or false"
    if isinstance(cell, int):
        return "whole numbers" if abs(cell) < 2**63 else "numbers beyond 64 bits"
    if isinstance(cell, float):
        return "fractions"
    return "names" if isinstance(cell, str) else "lists" if isinstance(cell, list) else "objects"
