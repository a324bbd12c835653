"""Zip archives read in place: nothing is extracted, and no member may exceed its declared size."""

from __future__ import annotations

import struct
import zipfile
import zlib
from typing import IO, Any, cast

import torch
from torch import Tensor

from robust_transfer.foreign.bytes_of import Bytes
from robust_transfer.foreign.values import BrokenError

MOST_DIRECTORY = 1 << 25  # bytes: some 400,000 members
MOST_TIMES = 32  # bytes that compressed members unfold to, to bytes of the file
CHUNK = 1 << 20


class Archive:
    """Members of a zip archive by name. Raises :class:`BrokenError`."""

    def __init__(self, source: Bytes) -> None:
        self.source, self._left = source, MOST_TIMES * len(source) + (1 << 26)
        _check_directory(source)
        try:
            self._zip = zipfile.ZipFile(cast(IO[bytes], Seekable(source)))
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, OverflowError, struct.error) as error:
            raise BrokenError(f"it is cut off or damaged: {error}") from None
        self.members: dict[str, zipfile.ZipInfo] = {}
        for member in self._zip.infolist():
            if member.filename in self.members:
                raise BrokenError(f"its archive has two members {member.filename[:100]!r}")
            self.members[member.filename] = member

    def bytes_of(self, name: str) -> Bytes:
        """Bytes of a member, without another copy in memory."""
        return Bytes(self.tensor(name, 1).numpy().tobytes())

    def tensor(self, name: str, itemsize: int) -> Tensor:
        """uint8 tensor of a member's bytes: a view of the file if stored uncompressed."""
        if name not in self.members:
            raise BrokenError(f"its archive lacks the member {name[:100]!r}")
        member = self.members[name]
        if member.flag_bits & 1:
            raise BrokenError("its archive is encrypted")
        if member.compress_type == zipfile.ZIP_STORED:
            return self.source.tensor(self._start(member), member.file_size, itemsize)
        if member.compress_type != zipfile.ZIP_DEFLATED:
            raise BrokenError("its archive is compressed by another method than deflate")
        self._left -= member.file_size
        if self._left < 0:
            raise BrokenError(f"its archive says that it unfolds to more than {MOST_TIMES} times its size")
        return self._unfolded(member)

    def _start(self, member: zipfile.ZipInfo) -> int:
        """Offset of a member's first byte, behind its local header."""
        at = member.header_offset
        if at < 0:  # a directory that lies about where it stands moves every member
            raise BrokenError("its archive is damaged: a member begins before the file")
        header = bytes(self.source.view[at : at + 30])
        if len(header) < 30 or not header.startswith(b"PK\3\4"):
            raise BrokenError(f"its archive has no member {member.filename[:100]!r} where it says")
        start = int(at + 30 + sum(struct.unpack("<HH", header[26:30])))
        if start + member.file_size > len(self.source):
            raise BrokenError(f"it is cut off in {member.filename[:100]!r}")
        return start

    def _unfolded(self, member: zipfile.ZipInfo) -> Tensor:
        content, reached = torch.empty(member.file_size, dtype=torch.uint8), 0
        target = content.numpy().data
        try:
            with self._zip.open(member) as file:
                while part := file.read(CHUNK):
                    target[reached : reached + len(part)] = part
                    reached += len(part)
        except (
            zipfile.BadZipFile,
            NotImplementedError,
            EOFError,
            ValueError,
            RuntimeError,
            OSError,
            zlib.error,
        ) as error:
            raise BrokenError(f"its archive is damaged: {error}") from None
        if reached != member.file_size:
            raise BrokenError(f"its archive is cut off in {member.filename[:100]!r}")
        return content


class Seekable:
    """Binary file with ``seek`` around bytes, for the zip library."""

    def __init__(self, source: Bytes) -> None:
        self._view, self._at = source.view, 0

    def seekable(self) -> bool:
        """Always True."""
        return True

    def tell(self) -> int:
        """Position."""
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a position, as in files."""
        at = offset + (0, self._at, len(self._view))[whence]
        if at < 0:
            raise OSError("a place before the file's beginning")  # as files do
        self._at = at
        return at

    def read(self, count: int | None = None) -> bytes:
        """The next bytes."""
        content = bytes(self._view[self._at : None if count is None or count < 0 else self._at + count])
        self._at += len(content)
        return content

    def close(self) -> None:
        """Do nothing: the bytes belong to the caller."""


def _check_directory(source: Bytes) -> None:
    """Refuse a directory too large to be read: each entry of 46 bytes becomes an object of a thousand."""
    first = max(len(source) - 65_557, 0)
    end = bytes(source.view[first:])
    at = end.rfind(b"PK\5\6")
    if at < 0 or len(end) < at + 22:
        raise BrokenError("it is cut off: a zip archive has its directory at the end")
    size = int(struct.unpack("<I", end[at + 12 : at + 16])[0])
    locator = end[at - 20 : at] if at >= 20 else b""
    if locator.startswith(b"PK\6\7"):
        place = int(struct.unpack("<Q", locator[8:16])[0])
        record: Any = bytes(source.view[place : place + 56])
        if len(record) == 56:
            size = max(size if size != 0xFFFFFFFF else 0, int(struct.unpack("<Q", record[40:48])[0]))
    if size > MOST_DIRECTORY:
        raise BrokenError("its archive has more members than weights need, or is damaged")
