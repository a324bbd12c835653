"""Parquet files, opened and read with one-sentence errors."""

from __future__ import annotations

import itertools
import mmap
import textwrap
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from robust_transfer.errors import DataError
from robust_transfer.texts import from_json

MOST_CLASSES = 1_000_000


def open_parquet(path: Path, content: bytes | None = None) -> Any:
    """``ParquetFile`` at ``path``; of ``content``, where that is in no file of its own."""
    try:
        if content is not None:
            return pq.ParquetFile(pa.BufferReader(content))
        try:
            return pq.ParquetFile(path)
        except UnicodeEncodeError:  # the library takes no name that is not UTF-8
            with path.open("rb") as file:
                return pq.ParquetFile(pa.py_buffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
    except (pa.ArrowException, OSError) as error:
        raise DataError(unreadable(path, error)) from None


def features_of(path: Path, schema: Any) -> Any:
    """Columns as described by `datasets`, which raises various errors for unknown types."""
    from datasets import Features

    try:
        if (stated := (schema.metadata or {}).get(b"huggingface")) is not None:
            _refuse_unfolding(from_json(stated))
        return Features.from_arrow_schema(schema)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        told = textwrap.shorten(str(error) or type(error).__name__, 150, placeholder=" ...")
        raise DataError(f"{path} has columns or metadata that `datasets` cannot read ({told})") from None


def _refuse_unfolding(stated: Any) -> None:
    """ValueError for a number of classes, each of which would get a name, that no data has."""
    parts = stated.items() if isinstance(stated, dict) else enumerate(stated) if isinstance(stated, list) else ()
    for key, part in parts:
        if key == "num_classes" and isinstance(part, int) and part > MOST_CLASSES:
            raise ValueError(f"{part:,} classes, and at most {MOST_CLASSES:,} are read")
        _refuse_unfolding(part)


def read_columns(path: Path, file: Any, columns: list[str]) -> Any:
    """Selected columns of an open file, without their metadata."""
    try:
        return file.read(columns=columns, use_threads=False).replace_schema_metadata(None)
    except (pa.ArrowException, OSError) as error:
        raise DataError(unreadable(path, error)) from None


def first_rows(path: Path, file: Any, column: str) -> Any:
    """First cell of a column, as a column of one row, or of none where there are none; no more of it is read."""
    try:
        batches = list(itertools.islice(file.iter_batches(batch_size=1, columns=[column], use_threads=False), 1))
        return pa.Table.from_batches(batches, file.schema_arrow.empty_table().select([column]).schema).column(0)
    except (pa.ArrowException, OSError) as error:
        raise DataError(unreadable(path, error)) from None


def unreadable(path: Path, error: Exception) -> str:
    """Error message for a damaged file, or one that is not parquet."""
    return f"cannot read {path}, it is damaged or no parquet file ({first_line(error)}): download or write it again"


def first_line(error: BaseException) -> str:
    """First line of an error's text."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
