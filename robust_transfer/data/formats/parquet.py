"""Folders of parquet files, laid out as HF datasets lays them out; and single parquet files."""

from __future__ import annotations

import glob
import mmap
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from robust_transfer.data import split as limits
from robust_transfer.data.formats.base import FORMATS, WRITTEN, ColumnNames, Format, Role, StoredDataset, listed
from robust_transfer.data.formats.columns import choose_columns
from robust_transfer.data.formats.disk import Disk
from robust_transfer.data.formats.split_names import FileName, file_name, role_of, speaks_of_a_split
from robust_transfer.data.formats.tables import Table, class_names, in_one_order, stored_splits
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
        if path.is_file():
            return _is_parquet(path)
        return any(_candidates(base) for base in _bases(path)) or bool(_inner(path))

    def read(self, where: str, columns: ColumnNames) -> StoredDataset:
        """Data set of the files in ``where``."""
        root = Path(where)
        found = find_parquet(root)
        return read_parquet(root, found, columns)


@dataclass(frozen=True)
class Files:
    """Files of each split, and notes on those that are of none."""

    of: dict[Role, list[Path]]
    notes: tuple[str, ...] = ()


def find_parquet(root: Path) -> Files:
    """Files of each split in ``root``, in ``root/data``, or in folders there whose whole name is a split's.

    Another folder in ``root`` is read where it alone has such files. Files that name no split are train where no file
    names one, and are left out with a note otherwise; so is all else that lies there. Raises :class:`DataError` where
    files of several data sets lie side by side, a file of a split is there twice or a file's name denies its folder's.
    """
    if root.is_file():
        return _alone(root)
    for base in _bases(root):
        files = _candidates(base)
        named = {file: name for file in files if (name := _name_of(file, base)) is not None}
        nameless = [file for file in files if file.parent == base]
        if named or nameless:
            found = _of_one_data_set(root, files, named) if named else _without_names(nameless)
            return Files(found.of, (*found.notes, *_beside(root, len(files))))
    inner = _inner(root)
    if len(inner) != 1:
        raise DataError(f"{root} holds data sets in folders of their own: give one of them, {listed(map(str, inner))}")
    found = find_parquet(inner[0])
    return Files(found.of, (f"{root.name} holds the one folder {inner[0].name!r}: its contents are read", *found.notes))


def _alone(file: Path) -> Files:
    """One file, taken as train whatever it is called; notes on what its name and its folder say of others."""
    name, notes = file_name(file.stem), list[str]()
    if name is not None and name.role != "train":
        notes.append(f"{file.name} is called as {WRITTEN[name.role]} is: given alone, it is taken as train")
    if beside := [other.name for other in sorted(file.parent.iterdir()) if _is_parquet(other) and other != file]:
        notes.append(f"{file.name} alone is read, not what lies beside it: {listed(beside)}")
    if name is not None:
        notes += _missing_shards(name.role, [(file, name)])
    return Files({"train": [file]}, tuple(notes))


def _bases(root: Path) -> tuple[Path, Path]:
    return root, root / "data"


def _inner(root: Path) -> list[Path]:
    """Folders in ``root`` with files of their own, or with files in folders there that are named after a split."""
    folders = sorted(path for path in root.glob("*/") if not path.name.startswith("."))
    return [
        folder
        for folder in folders
        if any(_name_of(file, folder) or file.parent == folder for file in _candidates(folder))
    ]


def _is_parquet(path: Path) -> bool:
    return path.suffix.casefold() == ".parquet" and not path.name.startswith(".") and not path.is_dir()


def _candidates(base: Path) -> list[Path]:
    """Parquet files in ``base`` and in the folders there."""
    return sorted(
        f for f in (*base.glob("*"), *base.glob("*/*")) if _is_parquet(f) and not f.parent.name.startswith(".")
    )


def _name_of(file: Path, base: Path) -> FileName | None:
    """What names a file's split: in ``base`` its own name, else its folder's, which its own may not deny."""
    own = file_name(file.stem)
    if file.parent == base:
        return own
    role = role_of(file.parent.name.removesuffix(".parquet"))
    if role is not None and own is not None and own.role != role:
        raise DataError(
            f"{file} is called as {WRITTEN[own.role]} is, in a folder of {WRITTEN[role]}: move or rename it"
        )
    return None if role is None else FileName("", role)


def _beside(root: Path, known: int) -> list[str]:
    """Notes on all that lies in and below ``root`` but the ``known`` parquet files."""
    disk, kind = Disk(), "files with the extension .parquet"
    images = disk.images(root)
    deeper = disk.left.pop(kind, 0) - known
    notes = [f"left out: {deeper} parquet files in other folders"] if deeper > 0 else []
    if images:
        shown = images[0].relative_to(root)
        notes.append(
            f"{len(images)} image files beside the parquet files count only where a row names them (such as '{shown}')"
        )
    return [*notes, *disk.notes()]


def _of_one_data_set(root: Path, files: list[Path], named: dict[Path, FileName]) -> Files:
    prefixes = sorted({name.prefix for name in named.values()})
    if len(prefixes) > 1 and "" not in prefixes:
        raise DataError(f"{root} holds files of several data sets, {listed(prefixes)}: give each a folder of its own")
    chosen = {file: name for file, name in named.items() if name.prefix == prefixes[0]}
    of: dict[Role, list[Path]] = {}
    notes = []
    for file in files:
        if file in chosen:
            of.setdefault(chosen[file].role, []).append(file)
    left = [str(file.relative_to(root)) for file in files if file not in chosen]
    if left:
        count = f"{len(left)} parquet file{'s' * (len(left) > 1)}"
        notes.append(f"{count} left out, as the name is not a split's, or in another folder: {listed(left)}")
    for role, paths in of.items():
        notes += _missing_shards(role, [(path, chosen[path]) for path in paths])
    return Files(of, tuple(notes))


def _without_names(files: list[Path]) -> Files:
    if half := [file.name for file in files if speaks_of_a_split(file.stem)]:
        raise DataError(
            f"cannot tell which split {listed(half)} belongs to: "
            "call the files train.parquet, validation.parquet, test.parquet, or train-00000-of-00002.parquet and so on"
        )
    what = f"all {len(files)} files, whose names are no splits', are" if len(files) > 1 else "the file is"
    return Files({"train": files}, (f"{what} taken as train: {listed(file.name for file in files)}",))


def _missing_shards(role: Role, files: list[tuple[Path, FileName]]) -> list[str]:
    """Note where shards are missing; :class:`DataError` where one is there twice."""
    totals = {name.total for _, name in files if name.total is not None}
    if len(totals) > 1:
        raise DataError(f"the {WRITTEN[role]} files count to different totals, {sorted(totals)}: keep one set of them")
    seen: dict[int, Path] = {}
    for path, name in files:
        if name.index is not None and name.index in seen:
            raise DataError(f"{seen[name.index]} and {path} are both the same part of {WRITTEN[role]}: remove one")
        if name.index is not None:
            seen[name.index] = path
    counted = [path for path, name in files if name.total is not None]
    if counted and len(counted) < len(files):
        others = [path.name for path, name in files if name.total is None]
        raise DataError(f"{listed(others)} and {counted[0].name} may hold the same images: keep the one or the other")
    counts = len(seen) == len(files) and min(seen, default=2) < 2  # from 0 or 1, and not sizes or years
    expected = max(totals, default=max(seen) - min(seen) + 1 if counts else len(files))
    if len(files) >= expected:
        return []
    have = f"only {len(files)} of the {expected} {WRITTEN[role]} files are there"
    return [f"{have}: the others' images are not in the task"]


def read_parquet(root: Path, files: Files, columns: ColumnNames) -> StoredDataset:
    """Data set in ``files`` (see :func:`find_parquet`)."""
    folder = root.parent if root.is_file() else root
    image, label = columns.image, columns.label
    tables: dict[Role, Table] = {}
    notes = list(files.notes)
    for role, paths in sorted(files.of.items(), key=lambda item: item[0] != "train"):
        opened = [_open(path) for path in paths]
        features = _features(paths[0], opened[0].schema_arrow)
        try:  # train comes first and settles the columns of the others
            image, label = choose_columns(features, image, label)
        except DataError as error:
            raise DataError(f"{paths[0]}: {error}") from None
        tables[role], said = _read_split(paths, opened, role, image, label)
        notes += said
    splits, said = stored_splits(tables, folder)
    name = root.resolve().stem if root.is_file() else root.resolve().name
    return StoredDataset(name, splits, (*notes, *said))


def _read_split(paths: list[Path], opened: list[Any], role: Role, image: str, label: str) -> tuple[Table, list[str]]:
    for path, file in zip(paths, opened, strict=True):
        if missing := {image, label} - set(file.schema_arrow.names):
            raise DataError(
                f"{path} lacks the column {listed(sorted(missing))}, which {paths[0].name} has: write it again"
            )
    names = [class_names(_features(path, file.schema_arrow)[label]) for path, file in zip(paths, opened, strict=True)]
    read = [_read(path, file, [label]).column(label) for path, file in zip(paths, opened, strict=True)]
    columns, notes = in_one_order(read, names, [path.name for path in paths])
    labels = _joined(paths, columns)
    if sum(_decompressed_bytes(file, {image}) for file in opened) > limits.MEMORY_LIMIT:
        images = _memory_mapped(paths, role, image)
    else:
        images = _joined(
            paths, [_read(path, file, [image]).column(image) for path, file in zip(paths, opened, strict=True)]
        )
    return Table(images, labels, names[0]), notes


def _features(path: Path, schema: Any) -> Any:
    """Columns as `datasets` describes them. It refuses types that it does not know, in many ways."""
    from datasets import Features

    try:
        return Features.from_arrow_schema(schema)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        told = textwrap.shorten(str(error) or type(error).__name__, 150, placeholder=" ...")
        raise DataError(f"{path} has columns or metadata that `datasets` cannot read ({told})") from None


def _open(path: Path) -> Any:
    try:
        try:
            return pq.ParquetFile(path)
        except UnicodeEncodeError:  # the library takes no name that is not UTF-8
            with path.open("rb") as file:
                return pq.ParquetFile(pa.py_buffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
    except (pa.ArrowException, OSError) as error:
        raise DataError(_unreadable(path, error)) from None


def _read(path: Path, file: Any, columns: list[str]) -> Any:
    try:
        return file.read(columns=columns, use_threads=False).replace_schema_metadata(None)
    except (pa.ArrowException, OSError) as error:
        raise DataError(_unreadable(path, error)) from None


def _joined(paths: Sequence[Path], columns: Sequence[Any]) -> Any:
    """One column of several files'."""
    try:
        tables = [pa.table({"column": column}) for column in columns]
        return pa.concat_tables(tables, promote_options="permissive").column("column")
    except pa.ArrowException as error:
        raise DataError(f"{paths[0]} and its shards have different columns: {_first_line(error)}") from None


def _memory_mapped(paths: list[Path], role: Role, column: str) -> Any:
    """Through an arrow copy in the HF cache (never beside the data), which can be read at random from the disk."""
    from datasets import load_dataset

    files = {WRITTEN[role]: [glob.escape(str(path)) for path in paths]}  # the library takes paths for patterns
    try:
        return load_dataset("parquet", data_files=files, columns=[column])[WRITTEN[role]].data.column(column)
    except Exception as error:  # whatever the library raises: a full disk, a damaged file, schemas that differ
        raise DataError(f"cannot read {paths[0]} and its shards: {_first_line(error.__cause__ or error)}") from None


def _decompressed_bytes(file: Any, columns: set[str]) -> int:
    groups = (file.metadata.row_group(i) for i in range(file.num_row_groups))
    chunks = (group.column(i) for group in groups for i in range(group.num_columns))
    return sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.split(".")[0] in columns)


def _unreadable(path: Path, error: Exception) -> str:
    return f"cannot read {path}, it is damaged or no parquet file ({_first_line(error)}): download or write it again"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
