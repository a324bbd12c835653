"""Archives of images that climb, link, lie about sizes, unfold to gigabytes, or are cut off."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from hostile_case import REFUSED, Case
from hostile_kit import cut, flipped, pictures, put, spliced

from archives import ARCHIVES, add, pack  # isort: skip

FAMILY = "archives"
HARMLESS = (
    "size that lies",
    "place that lies",
    "checksum",
    "method",
    "hundred folders",
    "60,000",
    "tar.xz of 1 GB",
    "tar.bz2 of 1 GB",
    "a picture of",
    "of a zip",
    "in a tar.gz",
)  # may be read, too
COMMANDS: tuple[Sequence[object], ...] = (
    ("data", "FILE", "--quiet"),
    ("transfer", "--source", "bundled", "--data", "FILE", "--strategy", "linear-probe", "--out", "run", "--quiet"),
    ("evaluate", "bundled", "--data", "FILE", "--threat", "linf:8/255", "--quiet"),
)
CLIMBING = ("../x.png", "../../../canary.png", "/tmp/canary.png", "C:/canary.png", "C:\\canary.png", "..\\..\\canary.png",
"train/../../x.png",
            "train/cat/../../../x.png", "//x/y.png", "train//cat/x.png", "./././x.png", "train/cat/..", "~/.bashrc.png",
            "\\\\host\\x.png",
            "train/cat/\x1b[2J.png", "train/cat/\u202e.png", "train/cat/a\nb.png", "train/<script>/x.png", "train/=1+1/x.png",
            "train/" + "a/" * 5000 + "x.png", "train/cat/" + "x" * 60_000 + ".png", "train/\udcff/x.png",
            "train/cat/CON.png", "", "/", ".",
            "train/ /x.png", "train/cat /x.png", "train/cat/x.png/y.png", "train", "TRAIN/CAT/0.PNG", "__MACOSX/._x.png",
            "train/%2e%2e/x.png")  # fmt: skip


def cases(chance: random.Random) -> Iterator[Case]:
    for kind in ARCHIVES:
        for name in CLIMBING:
            yield _case(chance, f"{kind} with {name[:30]!r}", f"x.{kind}", partial(_with, kind=kind, name=name))
        for target in (
            "../../../etc/passwd",
            "/etc/passwd",
            "0.png",
            "loop",
            "../dog",
            ".",
            "/dev/zero",
            "\x1b[2J",
            "a" * 4000,
        ):
            links = {"train/cat/loop": target, "train/cat/link.png": target}
            yield _case(
                chance, f"{kind} with a link to {target[:20]!r}", f"x.{kind}", partial(_linked, kind=kind, links=links)
            )
    for name, make in _bombs().items():
        ending = name.split()[0]
        must = None if any(word in name for word in HARMLESS) else REFUSED
        for command in COMMANDS[:1]:
            yield _case(chance, name, f"x.{ending}", make, command, must)
    for kind in ARCHIVES:
        content = _packed(kind)
        for how, new in [*cut(content), *flipped(content, chance, 8), *spliced(content, chance, 8)]:
            yield _case(chance, f"{kind} {how}", f"x.{kind}", partial(_same, new))
        for other in ARCHIVES:
            if other != kind:
                yield _case(chance, f"{kind} called {other}", f"x.{other}", partial(_same, content))


def _case(
    chance: random.Random,
    name: str,
    file: str,
    content: Callable[[], bytes],
    command: Sequence[object] | None = None,
    must: str | None = None,
) -> Case:
    words = [file if word == "FILE" else word for word in command or COMMANDS[0]]

    def make(folder: Path) -> Sequence[object]:
        put(folder, {file: content()})
        return words

    return Case(FAMILY, name, make, must)


def _same(content: bytes) -> bytes:
    return content


def _packed(kind: str) -> bytes:
    return _made(kind, lambda path: pack(path, pictures()))


def _made(kind: str, write: Callable[[Path], object]) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x.{kind}"
        write(path)
        return path.read_bytes()


def _with(kind: str, name: str) -> bytes:
    return _made(kind, lambda path: pack(path, {**pictures(), name: pictures()["train/cat/0.png"]}))


def _linked(kind: str, links: dict[str, str]) -> bytes:
    return _made(kind, lambda path: pack(path, pictures(), links))


# ---------------------------------------------------------------- bombs and lies


def _zip(write: Callable[[zipfile.ZipFile], None], method: int = zipfile.ZIP_DEFLATED) -> Callable[[], bytes]:
    def made() -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive:
            for name, content in pictures().items():
                archive.writestr(name, content)
            write(archive)
        return file.getvalue()

    return made


def _tar(write: Callable[[tarfile.TarFile], None], packed: Callable[[bytes], bytes] = bytes) -> Callable[[], bytes]:
    def made() -> bytes:
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as archive:
            for name, content in pictures().items():
                add(archive, name, content)
            write(archive)
        return packed(file.getvalue())

    return made


def _patched(make: Callable[[], bytes], mark: bytes, at: int, new: bytes) -> Callable[[], bytes]:
    """The last place of ``mark`` in the archive with other bytes ``at`` it."""

    def made() -> bytes:
        content = make()
        start = content.rfind(mark) + at
        return content[:start] + new + content[start + len(new) :]

    return made


def _overlapping() -> bytes:
    """Members that share one compressed block of 64 MB."""
    small = _zip(lambda archive: archive.writestr("train/cat/big.png", bytes(1 << 26)))()
    end = small.rfind(b"PK\5\6")
    size, start = struct.unpack("<II", small[end + 12 : end + 20])
    directory, count = small[start : start + size], 0
    entry = directory[directory.rfind(b"PK\1\2") :]
    more = b""
    for number in range(500):
        more += entry.replace(b"big.png", b"%03d.png" % number)
        count += 1
    total = struct.unpack("<H", small[end + 10 : end + 12])[0] + count
    return (
        small[:start]
        + directory
        + more
        + b"PK\5\6"
        + struct.pack("<HHHHIIH", 0, 0, total, total, size + len(more), start, 0)
    )


def _bombs() -> dict[str, Callable[[], bytes]]:
    one = _zip(lambda archive: None)
    nothing = _tar(lambda archive: None)

    def put_in(name: str, content: bytes) -> Callable[[zipfile.ZipFile], None]:
        return lambda archive: archive.writestr(name, content)

    def header(**fields: object) -> Callable[[tarfile.TarFile], None]:
        return lambda archive: add(archive, "train/cat/x.png", b"", **fields)

    zeros = bytes(1 << 26)
    return {
        "zip of a picture of 64 MB": _zip(put_in("train/cat/x.png", zeros)),
        "zip of a table of 64 MB": _zip(put_in("metadata.csv", b"file_name,label\n" + zeros)),
        "zip of a table of 64 MB of commas": _zip(put_in("train.csv", b"," * (1 << 26))),
        "zip of overlapping members": _overlapping,
        "zip of a zip": _zip(put_in("train/cat/x.zip", _zip(put_in("x", bytes(1 << 26)))())),
        "zip of 60,000 members": _zip(_many),
        "zip of the same name": _zip(lambda archive: archive.writestr("train/cat/0.png", b"x")),
        "zip that is encrypted": _patched(one, b"PK\1\2", 8, b"\x01\x00"),
        "zip of a size that lies": _patched(one, b"PK\1\2", 24, b"\xff\xff\xff\x7f"),
        "zip of a small size that lies": _patched(one, b"PK\1\2", 24, b"\x01\0\0\0"),
        "zip of a packed size that lies": _patched(one, b"PK\1\2", 20, b"\xff\xff\xff\x7f"),
        "zip of a place that lies": _patched(one, b"PK\1\2", 42, b"\xff\xff\xff\x7f"),
        "zip of another checksum": _patched(one, b"PK\1\2", 16, b"abcd"),
        "zip of an unknown method": _patched(one, b"PK\1\2", 10, b"\x63\0"),
        "zip of lzma": _zip(lambda archive: None, zipfile.ZIP_LZMA),
        "zip of several disks": _patched(one, b"PK\5\6", 4, b"\x05\0\x05\0"),
        "zip of a directory that lies": _patched(one, b"PK\5\6", 12, b"\xff\xff\xff\x7f"),
        "zip of entries that lie": _patched(one, b"PK\5\6", 8, b"\xff\xff\xff\xff"),
        "zip of nothing": lambda: b"PK\5\6" + bytes(18),
        "zip of no archive": lambda: b"<html>",
        "zip of a name that lies": _patched(one, b"PK\1\2", 28, b"\xff\xff"),
        "tar of a size of 2^62": _tar(header(size=2**33 - 1)),
        "tar of a picture of 64 MB": _tar(lambda archive: add(archive, "train/cat/x.png", bytes(1 << 26))),
        "tar of holes": _tar(header(type=tarfile.GNUTYPE_SPARSE)),
        "tar of a device": _tar(header(type=tarfile.CHRTYPE, devmajor=1, devminor=5)),
        "tar of an unknown kind": _tar(header(type=b"Z")),
        "tar of a long name that lies": _patched(_tar(header(name="x" * 200 + ".png")), b"././@LongLink", 124,
        b"77777777777\0"),
        "tar of a checksum that lies": _patched(nothing, b"ustar", -100, b"9999999\0"),
        "tar of a header of pax": _tar(lambda archive: archive.addfile(_pax("9" * 30 + " path=x\n"),
        io.BytesIO(b"9" * 30 + b" path=x\n" + bytes(9)))),
        "tar of a pax size": _tar(lambda archive: _paxed(archive, {"size": "9" * 30})),
        "tar of a pax size that is none": _tar(lambda archive: _paxed(archive, {"size": "-1"})),
        "tar of a pax path that climbs": _tar(lambda archive: _paxed(archive, {"path": "../../../canary.png"})),
        "tar of a pax record of 2 MB": _tar(lambda archive: _paxed(archive, {"comment": "x" * 2**21})),
        "tar of a time of 10^30": _tar(lambda archive: _paxed(archive, {"mtime": "9" * 30})),
        "tar of nothing": lambda: b"",
        "tar of zeros": lambda: bytes(1 << 20),
        "tar of no archive": lambda: b"<html>" * 200,
        "tar.gz of 4 GB": _tar(lambda archive: None, lambda content: gzip.compress(content[:-1024]) + _gzipped_zeros(4096)),
        "tar.xz of 1 GB": _tar(lambda archive: None,
        lambda content: lzma.compress(content[:-1024]) + lzma.compress(zeros) * 16),
        "tar.bz2 of 1 GB": _tar(lambda archive: None,
        lambda content: bz2.compress(content[:-1024]) + bz2.compress(bytes(1 << 24)) * 64),
        "tar.gz of a picture of 512 MB": _big_picture,
        "tar.gz in a tar.gz": _tar(lambda archive: add(archive, "x.tar.gz", _gzipped_zeros(64)), gzip.compress),
        "tar.gz of broken data": lambda: b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + b"\xff" * 1000,
        "tar.xz of a large dictionary": lambda: b"\xfd7zXZ\0\0\4\xe6\xd6\xb4F\x02\0!\x01\x28\0\0\0" + bytes(1000),
        "tar.gz of no tar": lambda: gzip.compress(b"x" * 10_000),
        "zip of a hundred folders": _zip(lambda archive: archive.writestr("train/cat/" + "a/" * 100 + "x.png",
        pictures()["train/cat/0.png"])),
    }  # fmt: skip


def _many(archive: zipfile.ZipFile) -> None:
    for number in range(60_000):
        archive.writestr(f"t/{number}", b"")


def _gzipped_zeros(megabytes: int) -> bytes:
    return gzip.compress(bytes(1 << 20)) * megabytes


def _pax(text: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, len(text)
    return info


def _paxed(archive: tarfile.TarFile, headers: dict[str, str]) -> None:
    info = tarfile.TarInfo("train/cat/x.png")
    info.pax_headers = headers
    archive.addfile(info, io.BytesIO())


def _big_picture() -> bytes:
    info = tarfile.TarInfo("train/cat/x.png")
    info.size = 1 << 29
    return gzip.compress(info.tobuf()) + _gzipped_zeros(512)
