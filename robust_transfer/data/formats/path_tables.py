"""Tables whose rows hold paths of image files, and labels: from the rows to stored splits."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robust_transfer.data.formats.base import ColumnNames, Role, StoredDataset
from robust_transfer.data.formats.class_folders import has_classes
from robust_transfer.data.formats.columns import choose_text_columns, labels_of, paths_of
from robust_transfer.data.formats.row_labels import as_column, is_empty, numbers_or_names
from robust_transfer.data.formats.row_paths import image_files
from robust_transfer.data.formats.row_splits import roles_of
from robust_transfer.data.formats.split_files import Files, Kind, holds_files
from robust_transfer.data.formats.table_cells import columns_of, is_text_table, read_cells
from robust_transfer.data.formats.table_text import Cells
from robust_transfer.data.formats.tables import Table, stored_splits
from robust_transfer.data.formats.tree import Tree
from robust_transfer.errors import DataError

_ENDINGS = ("_labels", "_metadata", "_annotations")  # train_labels.csv


def holds_tables(tree: Tree, root: Path) -> bool:
    """True for a folder with tables of image files, whose images are in no layout of class folders."""
    return holds_files(tree, root, kind_of(tree)) and not has_classes(tree, root)


def kind_of(tree: Tree) -> Kind:
    """Tables of images: those with a usual column of paths, and those that are called metadata."""

    @functools.cache
    def takes(path: Path) -> bool:
        return is_text_table(path) and (path.stem.casefold() == "metadata" or bool(paths_of(columns_of(tree, path))))

    def stem(path: Path) -> str:
        name = path.stem.casefold().replace("-", "_")
        return next((path.stem[: -len(end)] for end in _ENDINGS if name.endswith(end) and name != end), path.stem)

    return Kind("table", takes, stem)


@dataclass
class _Rows:
    """Rows of all tables: file, label and split of each, and the table and number by which messages call it."""

    files: list[Path] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    roles: list[Role] = field(default_factory=list)
    where: list[tuple[Path, int]] = field(default_factory=list)

    def named(self, row: int) -> str:
        table, number = self.where[row]
        return f"row {number} (from 0) of {table}"


def read_tables(tree: Tree, found: Files, columns: ColumnNames, name: str) -> StoredDataset:
    """Data set of the tables in ``found``, whose images lie in ``tree``."""
    rows, notes, settled = _Rows(), list[str](), False
    for role, paths in sorted(found.of.items(), key=lambda item: item[0] != "train"):
        for path in paths:
            cells = read_cells(tree, path)
            if role == "test" and len(found.of) > 1 and columns.label not in cells and not labels_of(cells):
                notes.append(f"{path.name} has no column of labels: it is not used")
                continue
            try:  # train comes first and settles the columns of the others
                columns = ColumnNames(*choose_text_columns(cells, columns))
            except DataError as error:
                raise DataError(f"{path}: {error}") from None
            said, by_column = _add(rows, tree, path, role if found.named else None, cells, columns)
            notes, settled = notes + said, settled or by_column
    if not settled:  # else a column says what the name of the file does not
        notes = [*found.notes, *notes]
    kept, said = _once(rows)
    notes += [*_without_hidden(rows, kept), *said, *_beside(tree, found, rows)]
    values, said = numbers_or_names([rows.labels[row] for row in kept])
    tables = {}
    for role in dict.fromkeys(rows.roles[row] for row in kept):
        mine = [(rows.files[row], value) for row, value in zip(kept, values, strict=True) if rows.roles[row] == role]
        tables[role] = Table(tree.opened([file for file, _ in mine]), as_column([value for _, value in mine]), None)
    splits, more = stored_splits(tables)
    return StoredDataset(name, splits, (*notes, *said, *more))


def _add(
    rows: _Rows, tree: Tree, path: Path, role: Role | None, cells: Cells, columns: ColumnNames
) -> tuple[list[str], bool]:
    """Append the rows of one table; notes on them, and whether a column says their splits."""
    written, labels = cells[columns.image or ""], cells[columns.label or ""]
    others = {name: column for name, column in cells.items() if name not in (columns.image, columns.label)}
    roles, notes = roles_of(others, path, role)
    files, said = image_files(tree, path, written)
    rows.files += files
    rows.labels += labels
    rows.roles += roles or [role or "train"] * len(files)
    rows.where += [(path, row) for row in range(len(files))]
    return notes + said, roles is not None


def _once(rows: _Rows) -> tuple[list[int], list[str]]:
    """Rows but those that say again what one has said; a file with two labels is refused."""
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


def _without_hidden(rows: _Rows, kept: list[int]) -> list[str]:
    """Take test out of ``kept`` where all its labels are empty, and refuse other empty ones; a note."""
    empty = [row for row in kept if is_empty(rows.labels[row])]
    tested = [row for row in kept if rows.roles[row] == "test"]
    if tested and empty == tested and len(tested) < len(kept):
        kept[:] = [row for row in kept if rows.roles[row] != "test"]
        return ["the labels of the test split are empty: it is not used"]
    if empty:
        raise DataError(f"{rows.named(empty[0])} has no label: give it one, or remove the row")
    return []


def _beside(tree: Tree, found: Files, rows: _Rows) -> list[str]:
    """Notes on what lies in the folder of the tables and is in none of them; nothing of a table that is given alone."""
    if found.alone:
        return []
    named = {os.path.normpath(file) for file in rows.files}
    others = [image for image in tree.images(found.within) if os.path.normpath(image) not in named]
    for table in found.seen:
        tree.left[f"files with the extension {table.suffix.casefold()}"] -= 1
    tree.left = +tree.left
    shown = f"{len(others)} images that are in no row of a table (such as {others[0].name!r})" if others else ""
    return [*([f"left out: {shown}"] if shown else []), *tree.notes()]
