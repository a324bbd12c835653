"""Text tables: CSV, TSV and JSON lines, read literally: no cell is converted to a number, a date or a missing value."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robust_transfer.data.decode import extensions
from robust_transfer.data.formats.base import listed
from robust_transfer.data.formats.columns import paths_of
from robust_transfer.errors import DataError

SEPARATORS = {".csv": (",", ";", "\t", "|"), ".tsv": ("\t",)}
LINES = (".jsonl", ".ndjson")
SUFFIXES = (*SEPARATORS, *LINES)
MOST_COLUMNS = 1000
MOST_GAPS = 1_000_000  # cells of JSON lines that are not there, beside 16 for each that is
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}

Cells = Mapping[str, Sequence[Any]]  # columns by name; a cell of CSV is a string, one of JSON any value


def read_text_table(content: bytes, path: Path) -> Cells:
    """Columns of the table in ``content``, read from the file ``path``.

    Raises :class:`DataError` for text that is not UTF-8 (or UTF-16 with its mark), for a missing header and for rows
    of other lengths.
    """
    text = _decoded(content, path)
    if path.suffix.casefold() in LINES:
        return _json_lines(text, path)
    return _separated(text, path, SEPARATORS[path.suffix.casefold()])


def header_of(content: bytes, path: Path) -> list[str]:
    """Column names in the first line of possibly truncated text; empty if unreadable."""
    first = content.decode(_encoding(content), "ignore").split("\n", 1)[0]
    try:
        return list(read_text_table(first.encode(), path))
    except DataError:
        return []


def _encoding(content: bytes) -> str:
    return next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8")


def _decoded(content: bytes, path: Path) -> str:
    try:
        text = content.decode(_encoding(content))
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path} is not UTF-8 (in line {line}): save it in that encoding") from None
    if "\0" in text:
        raise DataError(f"{path} holds zero bytes, so it is no text: save it as UTF-8")
    return text


def _separated(text: str, path: Path, separators: Sequence[str]) -> Cells:
    header, separator = _header(text, path, separators)
    columns: list[list[str]] = [[] for _ in header]
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        next(rows)
        for row in rows:
            if len(row) != len(header):
                if not row:
                    continue  # an empty line
                cells = f"{len(row)} cell{'s' * (len(row) > 1)} and not {len(header)}"
                raise DataError(f"line {rows.line_num} of {path} has {cells}, as the header has: correct or quote it")
            for column, cell in zip(columns, row, strict=True):
                column.append(cell)
    except csv.Error as error:
        raise DataError(f"line {rows.line_num} of {path} cannot be read ({error}): correct its quotes") from None
    return dict(zip(header, columns, strict=True))


def _header(text: str, path: Path, separators: Sequence[str]) -> tuple[list[str], str]:
    """Names in the first line, and the separator: one that gives a column of paths, or else the most columns."""
    found: dict[str, list[str]] = {}
    for separator in separators:
        try:
            found[separator] = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True), [])
        except csv.Error:
            continue
    if not any(found.values()):
        raise DataError(f"{path} is empty, or its header cannot be read: its first line names the columns")
    if (many := max(map(len, found.values()))) > MOST_COLUMNS:
        raise DataError(
            f"{path} has {many:,} columns, and at most {MOST_COLUMNS:,} are read: keep those that are needed"
        )
    separator = max(found, key=lambda each: (bool(paths_of(found[each])), len(found[each])))
    header = [name.strip() for name in found[separator]]
    if paths := [name for name in header if Path(name).suffix.casefold() in extensions()]:
        raise DataError(
            f"{path} has no header, its first line holds {listed(paths, most=1)}: name the columns in a line above it, "
            "such as image,label"
        )
    if twice := [name for name, times in Counter(header).items() if times > 1]:
        raise DataError(f"{path} has the column {twice[0]!r} twice: give each a name of its own")
    return header, separator


def _json_lines(text: str, path: Path) -> Cells:
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            raise DataError(f"line {number} of {path} is no JSON ({error}): write one object a line") from None
        if not isinstance(row, dict):
            raise DataError(f"line {number} of {path} is no JSON object: write one object a line")
        rows.append(row)
    if not rows:
        raise DataError(f"{path} is empty: write one JSON object a line")
    names = dict.fromkeys(name for row in rows for name in row)
    if len(names) > MOST_COLUMNS:
        raise DataError(
            f"{path} has {len(names):,} keys, and at most {MOST_COLUMNS:,} are read: keep those that are needed"
        )
    if len(names) * len(rows) > MOST_GAPS + 16 * sum(map(len, rows)):
        raise DataError(f"the lines of {path} have hardly a key in common: write the same keys in each")
    return {name: [row.get(name) for row in rows] for name in names}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has a key twice")
    return found
