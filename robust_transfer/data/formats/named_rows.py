"""Rows that name image files, with a label and a split each: repetitions, contradictions and empty cells."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robust_transfer.data.formats.base import Role, StoredSplit
from robust_transfer.data.formats.row_labels import as_column, is_empty, numbers_or_names
from robust_transfer.data.formats.tables import Table, stored_splits
from robust_transfer.data.formats.tree import Tree
from robust_transfer.errors import DataError


@dataclass
class Rows:
    """Rows of all tables: file, label and split of each, and its table and row number for messages."""

    files: list[Path] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    roles: list[Role] = field(default_factory=list)
    where: list[tuple[str, int]] = field(default_factory=list)

    def add(self, files: Sequence[Path], labels: Sequence[Any], roles: Sequence[Role], called: str) -> None:
        """Append rows of the table that messages call ``called``."""
        self.files += files
        self.labels += labels
        self.roles += roles
        self.where += [(called, row) for row in range(len(files))]

    def named(self, row: int) -> str:
        """Name of a row in messages."""
        table, number = self.where[row]
        return f"row {number} (from 0) of {table}"


def splits_of(
    rows: Rows, tree: Tree, class_names: tuple[str, ...] | None = None
) -> tuple[dict[Role, StoredSplit], list[str]]:
    """Checked splits of the files that ``rows`` name in ``tree``, and notes. ``class_names``: what numbers count."""
    kept, again = _once(rows)
    hidden = _without_hidden(rows, kept)
    values, said = numbers_or_names([rows.labels[row] for row in kept])
    tables = {}
    for role in dict.fromkeys(rows.roles[row] for row in kept):
        mine = [(rows.files[row], value) for row, value in zip(kept, values, strict=True) if rows.roles[row] == role]
        tables[role] = Table(
            tree.opened([file for file, _ in mine]), as_column([value for _, value in mine]), class_names
        )
    splits, more = stored_splits(tables)
    return splits, [*hidden, *again, *said, *more]


def _once(rows: Rows) -> tuple[list[int], list[str]]:
    """Rows without repetitions; a file with two labels is refused."""
    first: dict[str, int] = {}
    kept, seen = list[int](), set[tuple[str, Role]]()
    for row, (file, label, role) in enumerate(zip(rows.files, rows.labels, rows.roles, strict=True)):
        key = os.path.normpath(file)
        before = first.setdefault(key, row)
        if label != rows.labels[before] and not is_empty(label) and not is_empty(rows.labels[before]):
            raise DataError(
                f"{rows.named(before)} and {rows.named(row)} give {file.name!r} the labels {rows.labels[before]!r} and "
                f"{label!r}: each image needs one"
            )
        if (key, role) not in seen:
            seen.add((key, role))
            kept.append(row)
    again = len(rows.files) - len(kept)
    return kept, [f"left out: {again} rows that name an image again, with the same label"] if again else []


def _without_hidden(rows: Rows, kept: list[int]) -> list[str]:
    """Remove a test split without any labels from ``kept``, with a note; refuse other empty labels."""
    empty = [row for row in kept if is_empty(rows.labels[row])]
    tested = [row for row in kept if rows.roles[row] == "test"]
    if tested and empty == tested and len(tested) < len(kept):
        kept[:] = [row for row in kept if rows.roles[row] != "test"]
        return ["the labels of the test split are empty: it is not used"]
    if empty:
        raise DataError(f"{rows.named(empty[0])} has no label: give it one, or remove the row")
    return []
