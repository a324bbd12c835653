"""Folders of parquet files, laid out as HF datasets lays them out; and single parquet files."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from robust_transfer.data import split as limits
from robust_transfer.data.columns import choose_columns
from robust_transfer.data.source import WRITTEN, Role, Source, listed, role_of
from robust_transfer.data.tables import Columns, class_names, raw_splits
from robust_transfer.errors import DataError

_SHARD = re.compile(r"-\d+-of-(\d+)$")


def find_parquet(root: Path) -> dict[Role, list[Path]]:
    """The files of each split, in ``root``, ``root/data`` or folders there that are named after a split; may be empty.

    Files that name no split are train where no file names one, and are passed over otherwise.
    """
    if root.is_file():
        return {"train": [root]}
    nested: set[str] = set()
    for base in (root, root / "data"):
        files = sorted(f for f in (*base.glob("*.parquet"), *base.glob("*/*.parquet")) if not f.name.startswith("."))
        found: dict[Role, list[Path]] = {}
        for file in files:
            role = role_of(file.stem) if file.parent == base else role_of(file.parent.name)
            if role is not None:
                found.setdefault(role, []).append(file)
        if found:
            return found
        if nameless := [file for file in files if file.parent == base]:
            return {"train": nameless}
        nested.update(str(file.parent) for file in files)
    if nested:
        raise DataError(f"{root} holds data sets in folders of their own: give one of them, {listed(sorted(nested))}")
    return {}


def read_parquet(root: Path, files: dict[Role, list[Path]], image: str | None, label: str | None) -> Source:
    """The data set in ``files`` (see :func:`find_parquet`); ``image`` and ``label`` name the columns, or None."""
    folder = root.parent if root.is_file() else root
    tables: dict[Role, Columns] = {}
    for role, paths in sorted(files.items(), key=lambda item: item[0] != "train"):
        opened = [_open(path) for path in paths]
        features = _features(paths[0], opened[0].schema_arrow)
        try:  # train comes first and settles the columns of the others
            image, label = choose_columns(features, image, label)
        except DataError as error:
            raise DataError(f"{paths[0]}: {error}") from None
        tables[role] = _read_split(paths, opened, role, image, label)
    splits, notes = raw_splits(tables, folder)
    notes += [note for role, paths in files.items() if (note := _missing_shards(role, paths))]
    return Source(root.resolve().stem if root.is_file() else root.resolve().name, splits, tuple(notes))


def _read_split(paths: list[Path], opened: list[Any], role: Role, image: str, label: str) -> Columns:
    for path, file in zip(paths, opened, strict=True):
        if missing := {image, label} - set(file.schema_arrow.names):
            raise DataError(
                f"{path} lacks the column {listed(sorted(missing))}, which {paths[0].name} has: write it again"
            )
    if sum(_decompressed_bytes(file, {image, label}) for file in opened) > limits.MEMORY_LIMIT:
        table = _memory_mapped(paths, role, [image, label])
    else:
        table = _concatenated(paths, opened, [image, label])
    return Columns(
        table.column(image), table.column(label), class_names(_features(paths[0], opened[0].schema_arrow)[label])
    )


def _features(path: Path, schema: Any) -> Any:
    """The columns as `datasets` describes them. It refuses types that it does not know, in many ways."""
    from datasets import Features

    try:
        return Features.from_arrow_schema(schema)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        told = textwrap.shorten(str(error) or type(error).__name__, 150, placeholder=" ...")
        raise DataError(f"{path} has columns or metadata that `datasets` cannot read ({told})") from None


def _open(path: Path) -> Any:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(_unreadable(path, error)) from None


def _concatenated(paths: list[Path], opened: list[Any], columns: list[str]) -> Any:
    tables = []
    for path, file in zip(paths, opened, strict=True):
        try:
            tables.append(file.read(columns=columns, use_threads=False).replace_schema_metadata(None))
        except (pa.ArrowException, OSError) as error:
            raise DataError(_unreadable(path, error)) from None
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(f"{paths[0]} and its shards have different columns: {_first_line(error)}") from None


def _memory_mapped(paths: list[Path], role: Role, columns: list[str]) -> Any:
    """Through an arrow copy in the HF cache (never beside the data), which can be read at random from the disk."""
    from datasets import load_dataset

    files = {WRITTEN[role]: [str(path) for path in paths]}
    try:
        return load_dataset("parquet", data_files=files, columns=columns)[WRITTEN[role]].data
    except Exception as error:  # whatever the library raises: a full disk, a damaged file, schemas that differ
        raise DataError(f"cannot read {paths[0]} and its shards: {_first_line(error.__cause__ or error)}") from None


def _decompressed_bytes(file: Any, columns: set[str]) -> int:
    groups = (file.metadata.row_group(i) for i in range(file.num_row_groups))
    chunks = (group.column(i) for group in groups for i in range(group.num_columns))
    return sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.split(".")[0] in columns)


def _missing_shards(role: Role, paths: list[Path]) -> str | None:
    expected = max((int(match[1]) for path in paths if (match := _SHARD.search(path.stem))), default=len(paths))
    if len(paths) >= expected:
        return None
    return (
        f"only {len(paths)} of the {expected} {WRITTEN[role]} files are there: the others' images are not in the task"
    )


def _unreadable(path: Path, error: Exception) -> str:
    return f"cannot read {path}, it is damaged or no parquet file ({_first_line(error)}): download or write it again"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
