"""Tar archives: large headers, holes, damage in the middle, and how far a compressed one is read."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest
from archives import add, pack

from robust_transfer.data.formats.tars import CompressedTar, TarArchive
from robust_transfer.errors import DataError

FILES = {f"{'long' * 60}/{i}.png": bytes([i]) * size for i, size in enumerate((0, 1, 511, 512, 513, 1024, 3 * 2**20))}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_of_every_size_are_what_was_packed(tmp_path: Path, form: int) -> None:
    files = {name if form != tarfile.USTAR_FORMAT else name[-60:]: content for name, content in FILES.items()}
    with tarfile.open(tmp_path / "a.tar", "w", format=form) as tar:
        for name, content in files.items():
            add(tar, name, content)
    (tmp_path / "a.tgz").write_bytes(gzip.compress((tmp_path / "a.tar").read_bytes()))
    for archive in (TarArchive(tmp_path / "a.tar"), CompressedTar(tmp_path / "a.tgz")):
        assert {name: archive.read(name) for name in archive.members} == files


@pytest.mark.parametrize("at", [0, 1, 5])
def test_damage_in_the_middle_does_not_end_an_archive(tmp_path: Path, at: int) -> None:
    files = {f"{i}.png": bytes([i]) * 600 for i in range(6)}
    path = pack(tmp_path / "a.tar", files)
    content = bytearray(path.read_bytes())
    content[at * 1536 + 10] ^= 1  # a header and two blocks each: the header's checksum is another now
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged or no archive"):
        TarArchive(path)
    path.write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match="damaged or no archive"):
        CompressedTar(path)


def test_a_header_that_says_to_be_huge_is_not_read(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 2**33
    head = info.tobuf(tarfile.GNU_FORMAT)
    for path, content in ((tmp_path / "a.tar", head), (tmp_path / "a.tgz", gzip.compress(head + bytes(2**22)))):
        path.write_bytes(content)
        with pytest.raises(DataError, match="a header of 8589934592 bytes"):
            (CompressedTar if path.suffix == ".tgz" else TarArchive)(path)


def test_files_with_holes_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("a.png")
        info.size = 3
        info.pax_headers = {"GNU.sparse.map": "0,1,5,2", "GNU.sparse.size": "7", "GNU.sparse.numblocks": "2"}
        tar.addfile(info, io.BytesIO(b"abc"))
    with pytest.raises(DataError, match=r"holds the file with holes 'a\.png': unpack it"):
        TarArchive(tmp_path / "a.tar")


def test_headers_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack(tmp_path / "a.tar", {f"{i}.png": b"x" for i in range(50)})
    most = 0
    plain = tarfile.TarFile.next

    def watched(self: tarfile.TarFile) -> tarfile.TarInfo | None:
        nonlocal most
        found = plain(self)
        most = max(most, len(self.members))  # type: ignore[attr-defined]
        return found

    monkeypatch.setattr(tarfile.TarFile, "next", watched)
    assert len(TarArchive(path).members) == 50
    assert most == 1
