"""Folders of parquet files in the layout of HF datasets; and single parquet files."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from robust_transfer.data import split as limits
from robust_transfer.data.formats.base import FORMATS, WRITTEN, ColumnNames, Format, Role, StoredDataset, listed
from robust_transfer.data.formats.columns import choose_columns, class_names, holds_paths
from robust_transfer.data.formats.disk import Disk
from robust_transfer.data.formats.parquet_file import features_of, first_line, first_rows, open_parquet, read_columns
from robust_transfer.data.formats.path_tables import read_tables
from robust_transfer.data.formats.row_splits import Said, may_say_splits, roles_of
from robust_transfer.data.formats.split_files import Files, Kind, alone, find_files, holds_files
from robust_transfer.data.formats.table_cells import holds_other_things, plain_values
from robust_transfer.data.formats.tables import Table, divided, in_one_order, stored_splits
from robust_transfer.data.formats.tree import Tree
from robust_transfer.errors import DataError


@FORMATS.register(
    "a folder of parquet files",
    summary="train*.parquet, test*.parquet, as HF datasets writes them; or one file",
    paper="",
)
class Parquet(Format):
    """Parquet files in a folder, in its ``data/`` or its only other folder, or in folders there named after a split.

    Or a single file.
    """

    def recognises(self, path: Path) -> bool:
        """True for a parquet file, and for a folder that holds some where a split's may be."""
        return is_parquet(path) if path.is_file() else holds_files(Disk(), path, PARQUET)

    def read(self, where: str, columns: ColumnNames) -> StoredDataset:
        """Data set of the files in ``where``."""
        root, disk = Path(where), Disk()
        found = alone(disk, root, PARQUET) if root.is_file() else find_files(disk, root, PARQUET)
        name = root.resolve().stem if root.is_file() else root.resolve().name
        if names_files(disk, found, columns):
            return read_tables(disk, found, columns, name)
        if not found.alone:
            found = replace(found, notes=(*found.notes, *_beside(disk, found)))
        return read_parquet(root, found, columns, name)


def is_parquet(path: Path) -> bool:
    """True for the name of a parquet file."""
    return path.suffix.casefold() == ".parquet" and not path.name.startswith(".") and not path.is_dir()


PARQUET = Kind("parquet", is_parquet, lambda path: path.stem, (".parquet",))


def _beside(disk: Disk, found: Files) -> list[str]:
    """Notes on other files in and below the folder of the parquet files."""
    images = disk.images(found.within)
    deeper = disk.taken_back("files with the extension .parquet") - len(found.seen)
    notes = [f"left out: {deeper} parquet files in other folders"] if deeper > 0 else []
    if images:
        shown = images[0].relative_to(found.within)
        notes.append(
            f"{len(images)} image files beside the parquet files count only where a row names them (such as '{shown}')"
        )
    return [*notes, *disk.notes()]


def names_files(tree: Tree, found: Files, columns: ColumnNames) -> bool:
    """True for rows that name image files, as the first file of train (or of another split) has its columns."""
    path = min(found.of.items(), key=lambda item: item[0] != "train")[1][0]
    opened = open_parquet(path) if isinstance(tree, Disk) else open_parquet(path, tree.read(path))
    return holds_paths(features_of(path, opened.schema_arrow), columns.image)


def read_parquet(root: Path, files: Files, columns: ColumnNames, name: str) -> StoredDataset:
    """Data set in ``files``, whose rows hold the images."""
    folder = root.parent if root.is_file() else root
    tables: dict[Role, Table] = {}
    notes, as_train = list(files.notes), files.as_train
    for role, paths in sorted(files.of.items(), key=lambda item: item[0] != "train"):
        opened = [open_parquet(path) for path in paths]
        features = features_of(paths[0], opened[0].schema_arrow)
        try:  # train comes first and settles the columns of the others
            columns = choose_columns(features, columns)
        except DataError as error:
            raise DataError(f"{paths[0]}: {error}") from None
        tables[role], said = _read_split(paths, opened, role, columns.image or "", columns.label or "")
        notes += said
        if columns.split is not None or not files.named:  # else their names say the splits
            roles, said = _said_splits(paths, opened, role if files.named else None, columns)
            notes += said
            if roles is not None and not files.named:
                tables, as_train = divided(tables[role], roles, paths[0].name, folder), ()
    splits, said = stored_splits(tables, folder)
    return StoredDataset(name, splits, (*as_train, *notes, *said))


def _said_splits(paths: list[Path], opened: list[Any], role: Role | None, columns: ColumnNames) -> Said:
    """Splits of the rows of all files, if a column says them; see :func:`roles_of`. Others are not read to their end."""
    schema = opened[0].schema_arrow
    features, said = features_of(paths[0], schema), dict[str, list[Any]]()
    for name in schema.names:
        if name in (columns.image, columns.label) or holds_other_things(schema.field(name).type):
            continue
        names = class_names(features[name])
        first = plain_values(paths[0], first_rows(paths[0], opened[0], name), names)
        if name == columns.split or (len(first) and may_say_splits(name, first[0])):
            _require(paths, opened, {name})
            said[name] = []
            for path, file in zip(paths, opened, strict=True):
                said[name] += plain_values(path, read_columns(path, file, [name]).column(name), names)
    if columns.split is not None and columns.split not in said:
        raise DataError(f"the column {columns.split!r} of {paths[0]} holds no text: choose another split_column")
    return roles_of(said, paths[0], role, columns.split)


def _read_split(paths: list[Path], opened: list[Any], role: Role, image: str, label: str) -> tuple[Table, list[str]]:
    _require(paths, opened, {image, label})
    names = [class_names(features_of(path, file.schema_arrow)[label]) for path, file in zip(paths, opened, strict=True)]
    read = [read_columns(path, file, [label]).column(label) for path, file in zip(paths, opened, strict=True)]
    columns, notes = in_one_order(read, names, [path.name for path in paths])
    labels = _joined(paths, columns)
    if sum(_decompressed_bytes(file, {image}) for file in opened) > limits.MEMORY_LIMIT:
        images = _memory_mapped(paths, role, image)
    else:
        images = _joined(
            paths, [read_columns(path, file, [image]).column(image) for path, file in zip(paths, opened, strict=True)]
        )
    return Table(images, labels, names[0]), notes


def _require(paths: list[Path], opened: list[Any], columns: set[str]) -> None:
    for path, file in zip(paths, opened, strict=True):
        if missing := columns - set(file.schema_arrow.names):
            raise DataError(
                f"{path} lacks the column {listed(sorted(missing))}, which {paths[0].name} has: write it again"
            )


def _joined(paths: Sequence[Path], columns: Sequence[Any]) -> Any:
    """Column concatenated over files."""
    try:
        tables = [pa.table({"column": column}) for column in columns]
        return pa.concat_tables(tables, promote_options="permissive").column("column")
    except pa.ArrowException as error:
        raise DataError(f"{paths[0]} and its shards have different columns: {first_line(error)}") from None


def _memory_mapped(paths: list[Path], role: Role, column: str) -> Any:
    """Images through an arrow copy in the HF cache (never beside the data), for random access on disk."""
    from datasets import load_dataset

    files = {WRITTEN[role]: [glob.escape(str(path)) for path in paths]}  # the library takes paths for patterns
    try:
        return load_dataset("parquet", data_files=files, columns=[column])[WRITTEN[role]].data.column(column)
    except Exception as error:  # whatever the library raises: a full disk, a damaged file, schemas that differ
        raise DataError(f"cannot read {paths[0]} and its shards: {first_line(error.__cause__ or error)}") from None


def _decompressed_bytes(file: Any, columns: set[str]) -> int:
    groups = (file.metadata.row_group(i) for i in range(file.num_row_groups))
    chunks = (group.column(i) for group in groups for i in range(group.num_columns))
    return sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.split(".")[0] in columns)
