"""Files written whole or not at all, and paths as people type them."""

from __future__ import annotations

import errno
import glob
import io
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from safetensors import SafetensorError

from robust_transfer.errors import OutputError

if TYPE_CHECKING:
    import pandas as pd

# What a kill in the middle of a write leaves behind: our temporary file, or safetensors' own.
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}|\.tmp\w{6}")
FULL = (errno.ENOSPC, errno.EDQUOT)  # the disk, or the user's share of it
_told: list[Callable[[Path], None]] = []


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Call ``write(temporary)`` and move the result to ``path``: a reader sees the old file or the new one, whole.

    Raises :class:`OutputError` where that fails; then the old file is untouched and nothing is left beside it.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        announce(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.touch()
            usual = temporary.stat().st_mode
            write(temporary)
            temporary.chmod(usual)  # safetensors puts a file there that only its owner may read
            with temporary.open("r+b") as file:
                os.fsync(file.fileno())  # some file systems say only here that the disk is full
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        raise OutputError(os_message(path, error)) from None


def sweep(path: Path) -> None:
    """Remove what killed writes of ``path`` left beside it: for the holder of a lock under which alone it is written."""
    with suppress(OSError):  # they are in nobody's way
        for entry in path.parent.glob(f".{glob.escape(path.name)}.*"):
            if TEMPORARY.fullmatch(entry.name) and len(entry.name) == len(path.name) + 14:
                entry.unlink(missing_ok=True)


@contextmanager
def told_of_writes(hear: Callable[[Path], None]) -> Iterator[None]:
    """Call ``hear(path)`` before each write of this module's functions inside the block, in any thread."""
    _told.append(hear)
    try:
        yield
    finally:
        _told.remove(hear)


def announce(path: Path) -> None:
    """Notify listeners that ``path`` is about to be written, including by a library."""
    for hear in tuple(_told):
        hear(path)


@contextmanager
def all_or_none(*paths: Path) -> Iterator[None]:
    """Write files as a group: if one fails, those that did not exist before are removed again."""
    for path in paths:
        announce(path)  # listeners remove old files before the check for existing ones
    new = [path for path in paths if not path.exists()]
    try:
        yield
    except OutputError:
        for path in new:
            path.unlink(missing_ok=True)
        raise


def expanded(path: str | Path) -> Path:
    """Expand ``~`` and ``~user`` to existing home folders."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # there is no such user
        return Path(path)


def append_line(path: Path, text: str) -> None:
    """Append a line to a log; creates the file and its folder. Raises :class:`OutputError`.

    A line that a full disk or a kill has cut short is ended first: it alone is lost.
    """
    try:
        announce(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            file.write(b"\n" * _is_cut(file) + text.encode("utf-8", "backslashreplace") + b"\n")
    except OSError as error:
        raise OutputError(os_message(path, error)) from None


def _is_cut(file: BinaryIO) -> bool:
    """True if the last line has no end."""
    if not file.seek(0, os.SEEK_END):
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically. NaN is refused: it is not JSON."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8; undecodable bytes of names are written as ``\\udcff``."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically from bytes, since most libraries accept no path that is not UTF-8."""
    write_atomically(path, lambda temporary: _write(temporary, content))


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def read_table(path: Path) -> pd.DataFrame:
    """Table in a parquet file, also where its path is not UTF-8."""
    import pandas

    return pandas.read_parquet(io.BytesIO(path.read_bytes()))


def os_message(path: Path, error: Exception) -> str:
    """Error message for a file that could not be written."""
    # safetensors reports "... I/O error: No space left on device (os error 28)" by an exception of its own
    if getattr(error, "errno", None) in FULL or f"(os error {errno.ENOSPC})" in str(error):
        return f"the disk is full, so {path} was not written (what was there before is untouched): free some space"
    return f"cannot write {path}: {getattr(error, 'strerror', None) or error}; choose another --out"
