"""Open a data set by its name or path, with the first registered format that takes it."""

from __future__ import annotations

from pathlib import Path

from robust_transfer.data.formats.base import FORMATS, ColumnNames, Format, StoredDataset
from robust_transfer.errors import DataError
from robust_transfer.files import expanded
from robust_transfer.registry import nearest


def open_dataset(data: str | Path, columns: ColumnNames) -> StoredDataset:
    """Stored data set called ``data``: a name with the prefix of a format, or a path that one recognises.

    Raises :class:`DataError` for what does not exist, or is of no registered format.
    """
    formats = [entry.cls() for entry in FORMATS]
    prefix, colon, name = str(data).partition(":")
    for known in formats:
        if colon and known.prefix == prefix:
            return known.read(name, columns)
    if not str(data).strip():  # as a path it would be the folder that one happens to be in
        raise DataError(f"no data set is named: give one of {', '.join(entry.name for entry in FORMATS)}")
    path = expanded(data)
    try:
        there = bool(str(data)) and path.exists()
    except OSError as error:  # a folder above that may not be entered, a name that is too long
        raise DataError(f"cannot read {str(data)!r}: {error.strerror or error}") from None
    if not there:
        raise DataError(_not_there(str(data), path, formats))
    for known in formats:
        if known.recognises(path):
            return known.read(str(path), columns)
    spellings = ", ".join(entry.name for entry in FORMATS)
    if path.is_file():
        raise DataError(f"{path} is a single file of no known format: give a folder of images, or one of {spellings}")
    raise DataError(f"no data set was recognised in {path}: give one of {spellings}")


def _not_there(data: str, path: Path, formats: list[Format]) -> str:
    try:
        siblings = sorted(f.name for f in path.parent.iterdir() if not f.name.startswith("."))
    except OSError:
        siblings = []
    close = [str(path.parent / name) for name in nearest(path.name, siblings)]
    close += nearest(data, [name for known in formats for name in known.names()])
    if close:
        return f"{data!r} does not exist: did you mean {' or '.join(repr(c) for c in close)}?"
    return f"{data!r} does not exist: give a path to {', '.join(entry.name for entry in FORMATS)}"
