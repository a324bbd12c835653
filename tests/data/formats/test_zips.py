"""Zip archives that lie about themselves, are encrypted, or were packed by programs of other systems."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import pytest
from archives import pack

from robust_transfer.data.formats.zips import ZipArchive
from robust_transfer.errors import DataError

FILES = {"a/0.png": b"one" * 100, "b/1.png": b"two" * 100}


def patched(path: Path, name: bytes, field: int, form: str, value: int) -> Path:
    """Archive whose directory says ``value`` of the first member called ``name``."""
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\1\2")
    while not content[entry + 46 :].startswith(name):
        entry = content.index(b"PK\1\2", entry + 1)
    struct.pack_into(form, content, entry + field, value)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
@pytest.mark.parametrize("before", [b"", b"#!/bin/sh\n" * 100])
def test_members_are_what_was_packed(tmp_path: Path, method: int, before: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    (tmp_path / "a.zip").write_bytes(before + (tmp_path / "a.zip").read_bytes())
    read = ZipArchive(tmp_path / "a.zip")
    assert {name: read.read(name) for name in read.members} == FILES


@pytest.mark.parametrize(
    ("field", "form", "value", "said"),
    [
        (24, "<I", 299, "it does not hold the 299 bytes|its checksum"),
        (24, "<I", 301, "it does not hold the 301 bytes|its checksum"),
        (24, "<I", 2**31, "it says to hold 2147483648 bytes, more than the 536870912 that are read"),
        (20, "<I", 2**31, "it says to be larger packed than unpacked"),
        (16, "<I", 1, "its checksum is another"),
        (42, "<I", 7, "the archive is damaged there"),
        (10, "<H", 14, "it is compressed by method 14, which is not deflate or bzip2"),
    ],
)
def test_a_directory_that_lies_is_found_out(tmp_path: Path, field: int, form: str, value: int, said: str) -> None:
    path = patched(pack(tmp_path / "a.zip", FILES), b"a/0.png", field, form, value)
    archive = ZipArchive(path)
    with pytest.raises(ValueError, match=said):
        archive.read("a/0.png")
    assert archive.read("b/1.png") == FILES["b/1.png"]


def test_no_more_comes_out_than_a_member_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bomb: 100 MB of nothing that says to be 1,000 bytes."""
    path = pack(tmp_path / "a.zip", {"a/0.png": bytes(10**8)})
    archive = ZipArchive(patched(path, b"a/0.png", 24, "<I", 10**6))
    held: list[int] = []
    monkeypatch.setattr("robust_transfer.data.formats.zips.zlib.crc32", lambda content: held.append(len(content)))
    with pytest.raises(ValueError, match="its checksum"):
        archive.read("a/0.png")
    assert held == [10**6 + 1]


def test_an_encrypted_archive_is_refused(tmp_path: Path) -> None:
    path = patched(pack(tmp_path / "a.zip", FILES), b"b/1.png", 8, "<H", 1)
    with pytest.raises(DataError, match="is encrypted: unpack it, and give the folder"):
        ZipArchive(path)


@pytest.mark.parametrize(
    ("stored", "name"),
    [
        ("\u732b/0.png".encode(), "\u732b/0.png"),  # as many programs write, without saying that it is UTF-8
        ("caf\u00e9/0.png".encode("cp437"), "caf\udc82/0.png"),
        (b"cat\\sub\\0.png", "cat/sub/0.png"),
    ],
)
def test_names_without_a_stated_encoding(tmp_path: Path, stored: bytes, name: str) -> None:
    plain = bytes(range(65, 65 + len(stored)))
    path = pack(tmp_path / "a.zip", {plain.decode(): b"x"})
    path.write_bytes(path.read_bytes().replace(plain, stored))
    assert list(ZipArchive(path).members) == [name]


def test_backslashes_stay_where_slashes_part_folders(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"cat/0\\1.png": b"x"})
    assert list(ZipArchive(path).members) == ["cat/0\\1.png"]
