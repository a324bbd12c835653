"""Splits of a table's rows, from a column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robust_transfer.data.formats.base import WRITTEN, Role, listed
from robust_transfer.data.formats.columns import split_columns
from robust_transfer.data.formats.split_names import folded, role_of
from robust_transfer.errors import DataError

_YES, _NO = {"1", "true", "yes"}, {"0", "false", "no"}
Said = tuple[list[Role] | None, list[str]]


def roles_of(
    columns: Mapping[str, Sequence[Any]], table: Path | str, role: Role | None, given: str | None = None
) -> Said:
    """Split of each row of ``table``, and notes; None where no column says any.

    ``role``: what the name of the file says. ``given``: the column that says the splits, whatever it is called. Raises
    :class:`DataError` where a column says ``role`` and something else, two columns contradict each other, or a column of
    splits holds what no split is called.
    """
    if given is not None:
        roles, notes = _given(columns[given], given, table)
        others = [name for name in split_columns(columns) if name != given]
        notes += [f"the column {name!r} of {_name(table)} is not used: split_column is {given!r}" for name in others]
        found = {given: roles}
    else:
        found, notes = _found(columns, table, role)
        if not found:
            return None, notes + unheeded(columns, table)
    [(first, roles), *more] = found.items()
    for other, different in more:
        if different != roles:
            raise DataError(
                f"the columns {first!r} and {other!r} of {table} say different splits: name one of them as split_column"
            )
    if role is not None and set(roles) != {role}:
        strange = next(each for each in roles if each != role)
        raise DataError(
            f"{table} is called as {WRITTEN[role]} is, and its column {first!r} says {WRITTEN[strange]}: rename one of them"
        )
    return roles, notes


def may_say_splits(name: str, cell: Any) -> bool:
    """True where a column called ``name`` that holds ``cell`` may be one of splits, to judge by the two alone."""
    return bool(split_columns([name])) or _as_splits(name, [cell]) is not None


def _found(
    columns: Mapping[str, Sequence[Any]], table: Path | str, role: Role | None
) -> tuple[dict[str, list[Role]], list[str]]:
    """Splits by each column that has a usual name, and notes on those that say none."""
    found: dict[str, list[Role]] = {}
    notes: list[str] = []
    for name in split_columns(columns):
        cells = [_text(cell) for cell in columns[name]]
        known = {cell: role_of(cell) for cell in set(cells)}
        if any(known.values()):
            found[name] = _all_known(cells, known, name, table)
        elif role is None and name.casefold() != "fold":
            raise DataError(
                f"the column {name!r} of {table} says no split by its name, but {listed(sorted(known), most=3)}: write "
                "train, val or test there, or give the column another name"
            )
        elif role is None:
            notes.append(f"the column {name!r} of {_name(table)} is not used: it names no splits")
    return found, notes


def _given(column: Sequence[Any], name: str, table: Path | str) -> tuple[list[Role], list[str]]:
    if (said := _as_splits(name, column)) is not None:
        return said
    cells = [_text(cell) for cell in column]
    return _all_known(cells, {cell: role_of(cell) for cell in set(cells)}, name, table), []


def _all_known(cells: Sequence[str], known: Mapping[str, Role | None], name: str, table: Path | str) -> list[Role]:
    roles = [each for cell in cells if (each := known[cell]) is not None]
    if strangers := Counter(cell for cell in cells if known[cell] is None):
        raise DataError(
            f"the column {name!r} of {table} says {listed(strangers)} in {strangers.total()} rows, which no known "
            "split is called: write train, val or test there, or remove the rows"
        )
    return roles


def unheeded(columns: Mapping[str, Sequence[Any]], table: Path | str) -> list[str]:
    """Notes on columns that say splits, where nobody has said that these are to be heeded."""
    return [
        f"the column {name!r} of {_name(table)} seems to say the splits, and is not used: to have them, give "
        f"split_column={name!r}"
        for name, column in columns.items()
        if (said := _as_splits(name, column)) is not None and len(set(said[0])) > 1
    ]


def _as_splits(name: str, column: Sequence[Any]) -> tuple[list[Role], list[str]] | None:
    """Splits where each cell names one, or where the name asks for one that each cell affirms or denies; and notes."""
    asked = role_of(folded(name).removeprefix("is_")) if folded(name).startswith("is_") else None
    other: Role = "test" if asked == "train" else "train"
    answers = {**dict.fromkeys(_YES, asked), **dict.fromkeys(_NO, other)}
    roles = list[Role]()
    for cell in map(_text, column):
        role = role_of(cell) if asked is None else answers.get(cell.strip().casefold())
        if role is None:
            return None
        roles.append(role)
    return roles, [] if asked is None else [f"rows for which the column {name!r} says no are taken for {other}"]


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell)


def _name(table: Path | str) -> str:
    return table.name if isinstance(table, Path) else table
