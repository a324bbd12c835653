"""Tables whose rows hold paths of image files, and labels: from the rows to stored splits."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from robust_transfer.data.formats.base import ColumnNames, Role, StoredDataset
from robust_transfer.data.formats.class_folders import has_classes
from robust_transfer.data.formats.columns import choose_text_columns, labels_of
from robust_transfer.data.formats.named_rows import Rows, splits_of
from robust_transfer.data.formats.row_paths import image_files
from robust_transfer.data.formats.row_splits import roles_of
from robust_transfer.data.formats.split_files import Files, Kind, holds_files
from robust_transfer.data.formats.table_cells import names_images, read_cells
from robust_transfer.data.formats.table_text import SUFFIXES, Cells
from robust_transfer.data.formats.tree import Tree
from robust_transfer.errors import DataError

_ENDINGS = ("_labels", "_metadata", "_annotations")  # train_labels.csv


def holds_tables(tree: Tree, root: Path) -> bool:
    """True for a folder with tables of image files and without class folders."""
    return holds_files(tree, root, kind_of(tree)) and not has_classes(tree, root)


def kind_of(tree: Tree) -> Kind:
    """Tables of images: those with a usual column of paths, and those named metadata."""

    @functools.cache
    def takes(path: Path) -> bool:
        return names_images(tree, path)

    def stem(path: Path) -> str:
        name = path.stem.casefold().replace("-", "_")
        return next((path.stem[: -len(end)] for end in _ENDINGS if name.endswith(end) and name != end), path.stem)

    return Kind("table", takes, stem, SUFFIXES)


def read_tables(tree: Tree, found: Files, columns: ColumnNames, name: str) -> StoredDataset:
    """Data set of the tables in ``found``, whose images lie in ``tree``."""
    rows, notes, settled = Rows(), list(found.notes), False
    for role, paths in sorted(found.of.items(), key=lambda item: item[0] != "train"):
        for path in paths:
            cells = read_cells(tree, path)
            if role == "test" and len(found.of) > 1 and columns.label not in cells and not labels_of(cells):
                notes.append(f"{path.name} has no column of labels: it is not used")
                continue
            try:  # train comes first and settles the columns of the others
                columns = choose_text_columns(cells, columns)
            except DataError as error:
                raise DataError(f"{path}: {error}") from None
            said, by_column = _add(rows, tree, path, role if found.named else None, cells, columns)
            notes, settled = notes + said, settled or by_column
    splits, said = splits_of(rows, tree)
    as_train = () if settled else found.as_train  # a column may say what the name of the file does not
    return StoredDataset(name, splits, (*as_train, *notes, *_beside(tree, found, rows), *said))


def _add(
    rows: Rows, tree: Tree, path: Path, role: Role | None, cells: Cells, columns: ColumnNames
) -> tuple[list[str], bool]:
    """Append the rows of one table; returns notes, and True if a column defines their splits."""
    written, labels = cells[columns.image or ""], cells[columns.label or ""]
    others = {name: column for name, column in cells.items() if name not in (columns.image, columns.label)}
    roles, notes = roles_of(others, path, role, columns.split)
    files, said = image_files(tree, path.parent, str(path), written)
    rows.add(files, labels, roles or [role or "train"] * len(files), str(path))
    return notes + said, roles is not None


def _beside(tree: Tree, found: Files, rows: Rows) -> list[str]:
    """Notes on files in the folder of the tables that no table lists; empty for a table passed alone."""
    if found.alone:
        return []
    named = {os.path.normpath(file) for file in rows.files}
    others = [image for image in tree.images(found.within) if os.path.normpath(image) not in named]
    tree.forget(named | {os.path.normpath(table) for table in found.seen})
    shown = f"{len(others)} images that are in no row of a table (such as {others[0].name!r})" if others else ""
    return [*([f"left out: {shown}"] if shown else []), *tree.notes()]
