"""Paths of image files in the rows of a table: each must name an existing file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robust_transfer.data.formats.base import listed
from robust_transfer.data.formats.tree import Tree
from robust_transfer.errors import DataError

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/{2}")
SHOWN = 3


def image_files(tree: Tree, folder: Path, table: str, written: Sequence[Any]) -> tuple[list[Path], list[str]]:
    """File of each row, relative to ``folder``, and notes; ``table`` is the table's name in messages.

    Raises :class:`DataError` where there are no rows, and for cells without a path, addresses, paths that lead out of an
    archive, and missing files.
    """
    if not len(written):
        raise DataError(f"{table} is empty: add images to it, or remove it")
    for row, cell in enumerate(written):
        if not isinstance(cell, str) or not cell.strip():
            raise DataError(f"row {row} (from 0) of {table} names no image: give it one, or remove the row")
        if _ADDRESS.match(cell):
            raise DataError(
                f"row {row} (from 0) of {table} holds the address {cell[:80]!r}: images are read from files, so download "
                "them and write their paths"
            )
    found, missing, turned = list[Path](), list[str](), 0
    for row, cell in enumerate(written):
        try:
            path = tree.at(folder, cell)
            if "\\" in cell and tree.no_file(path) is not None:
                path = tree.at(folder, cell.replace("\\", "/"))
                turned += tree.no_file(path) is None
        except ValueError as error:
            raise DataError(
                f"row {row} (from 0) of {table} names {cell[:80]!r}, and {error}: correct the path"
            ) from None
        found.append(path)
        if tree.no_file(path) is not None:
            missing.append(cell)
    if missing:
        raise DataError(
            f"{len(missing)} of the {len(written)} images that {table} names are not there (such as "
            f"{listed(missing[:SHOWN])}{_elsewhere(tree, folder, missing[0])}): add them, correct the paths, which are "
            f"relative to {folder}, or remove the rows"
        )
    return found, [f"backslashes in {turned} paths of {table} are taken for slashes"] if turned else []


def _elsewhere(tree: Tree, folder: Path, cell: str) -> str:
    """Possible location of the missing file: in a folder beside the table, or above the table's own."""
    for base in (*tree.folders(folder), folder.parent):
        try:
            path = tree.at(base, cell)
            if tree.no_file(path) is None:
                return f"; there is {str(path)!r}"
        except ValueError:
            continue
    return ""
