"""Tables whose rows name image files, in text or in parquet: their columns as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from robust_transfer.data.formats.columns import class_names, paths_of
from robust_transfer.data.formats.parquet_file import features_of, unreadable
from robust_transfer.data.formats.table_text import SUFFIXES, Cells, header_of, read_text_table
from robust_transfer.data.formats.tree import Tree
from robust_transfer.errors import DataError

HEADER = 2**16  # bytes in which a header ends


def is_text_table(path: Path) -> bool:
    """True for the name of a table in text."""
    return path.suffix.casefold() in SUFFIXES and not path.name.startswith(".")


def names_images(tree: Tree, path: Path) -> bool:
    """True for a text table named metadata, or with a column named like a column of paths."""
    if not is_text_table(path):
        return False
    return path.stem.casefold() == "metadata" or bool(paths_of(header_of(tree.read(path, HEADER), path)))


def read_cells(tree: Tree, path: Path) -> Cells:
    """Columns of the table at ``path`` in ``tree``; of parquet those of text and numbers, classes by their names."""
    if is_text_table(path):
        return read_text_table(tree.read(path), path)
    try:
        table = pq.read_table(pa.BufferReader(tree.read(path)), use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise DataError(unreadable(path, error)) from None
    features = features_of(path, table.schema)
    return {
        name: plain_values(path, table.column(name), class_names(features[name]))
        for name in table.schema.names
        if not holds_other_things(table.schema.field(name).type)
    }


def holds_other_things(kind: Any) -> bool:
    """True for a type of column that holds neither text nor numbers."""
    return bool(pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def plain_values(path: Path | str, column: Any, names: tuple[str, ...] | None) -> Sequence[Any]:
    """Cells of a column of parquet; class numbers by their ``names``, None for those that stand for no class."""
    values: list[Any] = column.to_pylist()
    if names is None:
        return values
    for row, value in enumerate(values):
        if value is not None and value >= len(names):
            raise DataError(
                f"row {row} (from 0) of {path} has the label {value}, but there are {len(names)} classes (0 to "
                f"{len(names) - 1}): correct the label or the list of class names"
            )
    return [None if value is None or value < 0 else names[value] for value in values]
