"""Splits of a table's rows, from a column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robust_transfer.data.formats.base import WRITTEN, Role, listed
from robust_transfer.data.formats.columns import split_columns
from robust_transfer.data.formats.split_names import role_of
from robust_transfer.errors import DataError


def roles_of(
    columns: Mapping[str, Sequence[Any]], table: Path, role: Role | None
) -> tuple[list[Role] | None, list[str]]:
    """Split of each row of ``table``, and notes; None without a column of splits.

    ``role``: the split in the file's name. Raises :class:`DataError` for a column that contradicts it, for
    contradictory columns, and for a column with other words than names of splits.
    """
    found: dict[str, list[Role]] = {}
    notes: list[str] = []
    for name in split_columns(columns):
        cells = ["" if cell is None else str(cell) for cell in columns[name]]
        known = {cell: role_of(cell) for cell in set(cells)}
        if roles := [each for cell in cells if (each := known[cell]) is not None]:
            strangers = Counter(cell for cell in cells if known[cell] is None)
            if strangers:
                raise DataError(
                    f"the column {name!r} of {table} says {listed(strangers)} in {strangers.total()} rows, which no known "
                    "split is called: write train, val or test there, or remove the rows"
                )
            found[name] = roles
        elif role is None and name.casefold() != "fold":
            raise DataError(
                f"the column {name!r} of {table} says no split by its name, but {listed(sorted(known), most=3)}: write "
                "train, val or test there, or give the column another name"
            )
        elif role is None:
            notes.append(f"the column {name!r} of {table.name} is not used: it names no splits")
    if not found:
        return None, notes
    [(first, roles), *others] = found.items()
    for other, more in others:
        if more != roles:
            raise DataError(
                f"the columns {first!r} and {other!r} of {table} say different splits: give one of them another name"
            )
    if role is not None and set(roles) != {role}:
        strange = next(each for each in roles if each != role)
        raise DataError(
            f"{table} is called as {WRITTEN[role]} is, and its column {first!r} says {WRITTEN[strange]}: rename one of them"
        )
    return roles, notes
