"""Tar archives: member offsets found in one pass; compressed ones, without random access, kept in memory."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from robust_transfer.data import split as limits
from robust_transfer.data.formats.members import UNPACK, Archive
from robust_transfer.errors import DataError

_COMPRESSED: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
MOST_HEADER = 2**20  # bytes of a member's name and other notes
_BLOCK = tarfile.BLOCKSIZE
_CHUNK = 2**20


class _Place(NamedTuple):
    offset: int
    size: int


class TarArchive(Archive[_Place]):
    """Plain tar."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with path.open("rb") as file:
            _go_through(self, _Forward(file, None), lambda info: _Place(info.offset_data, info.size))
        self.follow_links()

    def size(self, member: _Place) -> int:
        """Size in the member's header."""
        return member.size

    def _content(self, file: IO[bytes], member: _Place) -> bytes:
        file.seek(member.offset)
        return file.read(member.size)


class CompressedTar(Archive[bytes]):
    """Tar compressed by gzip, bzip2 or xz, its files kept in memory as they are.

    Raises :class:`DataError` for more decompressed bytes than a split may keep in memory.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with path.open("rb") as packed, _opener(packed)(packed) as file:
            stream = _Forward(file, limits.MEMORY_LIMIT)

            def content(info: tarfile.TarInfo) -> bytes:
                stream.seek(info.offset_data)
                return stream.read_whole(info.size)

            _go_through(self, stream, content)
        self.follow_links()

    def size(self, member: bytes) -> int:
        """Decompressed size."""
        return len(member)

    def _content(self, file: IO[bytes], member: bytes) -> bytes:
        return member


def is_compressed(path: Path) -> bool:
    """True if the file begins like gzip, bzip2 or xz, whatever its name."""
    with path.open("rb") as file:
        return _opener(file) is not None


def _opener(file: IO[bytes]) -> Any:
    start = file.read(8)
    file.seek(0)
    return next((opener for magic, opener in _COMPRESSED.items() if start.startswith(magic)), None)


class _TooMuchError(Exception):
    """Decompressed archive that exceeds the limit."""


class _Forward:
    """File read once from beginning to end, as tarfile does except for one block; at most ``limit`` bytes."""

    def __init__(self, file: IO[bytes], limit: int | None) -> None:
        self._file, self._limit = file, limit
        self._at, self._back, self._last = 0, 0, b""

    def tell(self) -> int:
        return self._at - self._back

    def seek(self, to: int) -> None:
        if to < self._at - len(self._last):
            raise tarfile.ReadError("it leads back")
        if self._limit is None and to > self._at:
            self._at = self._file.seek(to)
            self._back, self._last = 0, b""
        self._back = max(0, self._at - to)
        while self._at < to:
            if not self._more(min(_CHUNK, to - self._at)):
                break

    def read(self, size: int) -> bytes:
        if size > MOST_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self.read_whole(size)

    def read_whole(self, size: int) -> bytes:
        parts = [self._last[len(self._last) - self._back :][:size]] if self._back else [b""]
        size -= len(parts[0])
        self._back -= len(parts[0])
        while size > 0 and (part := self._more(min(_CHUNK, size))):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _more(self, size: int) -> bytes:
        if self._limit is not None and self._at + size > self._limit:
            raise _TooMuchError
        part = self._file.read(size)
        self._at += len(part)
        self._last = (self._last + part)[-_BLOCK:]
        return part


def _go_through(archive: Archive[Any], stream: _Forward, member: Callable[[tarfile.TarInfo], Any]) -> None:
    """Add the member of each header in turn; refuses damage, also where tarfile only stops."""
    try:
        with tarfile.TarFile(fileobj=cast(Any, stream), encoding="utf-8", errors="surrogateescape") as tar:
            while (info := tar.next()) is not None:
                _add(archive, info, member)
                vars(tar)["members"] = []  # else it remembers them all
            stream.seek(tar.offset)
            if stream.read(_BLOCK) != bytes(_BLOCK):
                raise tarfile.ReadError("it does not end as archives end")
    except _TooMuchError:
        raise DataError(
            f"{archive.path} is compressed, and more than the {limits.MEMORY_LIMIT} bytes that are kept in memory come out "
            f"of it: {UNPACK}, or a tar that is not compressed"
        ) from None
    except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"cannot read {archive.path}, it is damaged or no archive ({error}): get it again") from None


def _add(archive: Archive[Any], info: tarfile.TarInfo, member: Callable[[tarfile.TarInfo], Any]) -> None:
    if info.issparse():
        raise DataError(f"{archive.path} holds the file with holes {info.name[:80]!r}: {UNPACK}")
    if info.isfile():
        archive.add(info.name, member(info))
    elif info.isdir():
        archive.add_folder(info.name)
    elif info.issym():
        archive.add_link(info.name, info.linkname, info.name.rpartition("/")[0])
    elif info.islnk():
        archive.add_link(info.name, info.linkname)
    else:
        archive.add_special(info.name)
