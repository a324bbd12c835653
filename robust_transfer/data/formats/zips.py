"""Zip archives: the directory read once, members read on demand."""

from __future__ import annotations

import bz2
import stat
import struct
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from robust_transfer.data.formats.members import UNPACK, Archive
from robust_transfer.errors import DataError

_UTF8, _ENCRYPTED = 1 << 11, 1 << 0  # bits of a member's flags
_HEADER = 30  # bytes, behind which a name and more follow


class _Place(NamedTuple):
    offset: int
    packed: int
    size: int
    crc: int
    method: int


class ZipArchive(Archive[_Place]):
    """Members that are stored, or compressed by deflate or bzip2."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            with zipfile.ZipFile(path) as file:
                found = file.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, OverflowError, struct.error) as error:
            raise DataError(f"cannot read {path}, it is damaged or no zip archive ({error}): get it again") from None
        slashes = any("/" in each.filename for each in found)
        for each in found:
            name = _name_of(each, slashes)
            if each.flag_bits & _ENCRYPTED:
                raise DataError(f"{path} is encrypted: {UNPACK}")
            place = _Place(each.header_offset, each.compress_size, each.file_size, each.CRC, each.compress_type)
            if name.endswith("/"):
                self.add_folder(name)
            elif stat.S_ISLNK(each.external_attr >> 16):
                self.add_link(name, self._target(place), name.rpartition("/")[0])
            else:
                self.add(name, place)
        self.follow_links()

    def size(self, member: _Place) -> int:
        """Size in the directory."""
        return member.size

    def _content(self, file: IO[bytes], member: _Place) -> bytes:
        if member.packed > member.size + member.size // 64 + 1024:
            raise ValueError("it says to be larger packed than unpacked")
        file.seek(member.offset)
        header = file.read(_HEADER)
        if len(header) < _HEADER or not header.startswith(b"PK\3\4"):
            raise ValueError("the archive is damaged there")
        name, extra = struct.unpack("<HH", header[26:])
        file.seek(name + extra, 1)
        content = _unfolded(file.read(member.packed), member)
        if zlib.crc32(content) != member.crc:
            raise ValueError("its checksum is another")
        return content

    def _target(self, place: _Place) -> str:
        if place.size > 4096:
            raise DataError(f"{self.path} holds a link of {place.size} bytes: {UNPACK}")
        try:
            with self.path.open("rb") as file:
                return self._content(file, place).decode("utf-8", "surrogateescape")
        except (ValueError, OSError, zlib.error) as error:
            raise DataError(f"{self.path} holds a link that cannot be read ({error}): {UNPACK}") from None


def _unfolded(packed: bytes, member: _Place) -> bytes:
    """Decompressed bytes, at most one more than declared: endless data is cut off, and then refused as too long."""
    if member.method == zipfile.ZIP_STORED:
        return packed
    if member.method == zipfile.ZIP_DEFLATED:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, member.size + 1)
    if member.method == zipfile.ZIP_BZIP2:
        return bz2.BZ2Decompressor().decompress(packed, member.size + 1)
    raise ValueError(f"it is compressed by method {member.method}, which is not deflate or bzip2")


def _name_of(member: zipfile.ZipInfo, slashes: bool) -> str:
    """Name as UTF-8, which many programs write without declaring it; other bytes become surrogates."""
    name = member.filename
    if not member.flag_bits & _UTF8:
        with suppress(UnicodeEncodeError):  # an entry of its own says another name
            name = name.encode("cp437").decode("utf-8", "surrogateescape")
    return name if slashes else name.replace("\\", "/")  # as some programs of Windows write them, against the rules
