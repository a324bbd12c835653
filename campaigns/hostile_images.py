"""Images that are damaged, lie, or are something else: each read by ``predict`` alone, or by ``data`` in a data set."""

from __future__ import annotations

import functools
import io
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from hostile_case import Case
from hostile_kit import cut, flipped, image_files, pictures, put, put_run, spliced
from PIL import Image, PngImagePlugin

FAMILY = "images"


def cases(chance: random.Random) -> Iterator[Case]:
    for ending, content in image_files().items():
        for how, new in cut(content):
            yield _case(chance, f"{ending} {how}", {f"x.{ending}": new})
        for how, new in [*flipped(content, chance, 6), *flipped(content, chance, 8, 64), *spliced(content, chance, 6)]:
            yield _case(chance, f"{ending} {how}", {f"x.{ending}": new})
        for other in image_files():
            if other != ending:
                yield _case(chance, f"{ending} called {other}", {f"x.{other}": content})
    for name, files in _lies().items():
        for command in ("predict", "data"):
            yield _case(chance, f"{name}, {command}", files, command)


def _case(chance: random.Random, name: str, files: Mapping[str, bytes], command: str | None = None) -> Case:
    command = command or chance.choice(("predict", "predict", "data"))
    return Case(FAMILY, name, partial(_make, files=files, command=command))


def _make(folder: Path, files: Mapping[str, bytes], command: str) -> Sequence[object]:
    if command == "predict":
        put_run(folder / "run")
        put(folder, files)
        return ("predict", "run", *files, "--quiet")
    put(folder / "pets", pictures())
    put(folder / "pets/train/cat", files)
    return "data", "pets", "--quiet", "--contact-sheet", "sheet.png"


# ---------------------------------------------------------------- lies


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(
    width: int, height: int, data: bytes = b"", *more: bytes, bits: int = 8, colour: int = 2, interlace: int = 0
) -> bytes:
    """A PNG that says to be of this size, of these compressed rows."""
    head = struct.pack(">IIBBBBB", width & 0xFFFFFFFF, height & 0xFFFFFFFF, bits, colour, 0, 0, interlace)
    parts = (chunk(b"IHDR", head), *more, chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@functools.cache
def _zeros() -> bytes:
    return zlib.compress(bytes(1 << 26), 1)


def saved(pixels: Any, fmt: str, mode: str | None = None, **options: Any) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(pixels) if mode is None else Image.fromarray(pixels).convert(mode)
    image.save(file, fmt, **options)
    return file.getvalue()


def _lies() -> dict[str, dict[str, bytes]]:
    good, jpeg, gif = image_files()["png"], image_files()["jpg"], image_files()["gif"]
    made: dict[str, bytes] = {
        f"PNG of {w} x {h}": png(w, h)
        for w, h in (
            (0, 0),
            (0, 5),
            (5, 0),
            (2**31 - 1, 2**31 - 1),
            (-1, -1),
            (2**31, 1),
            (1, 2**31 - 1),
            (65535, 65535),
            (30_000, 30_000),
            (10_000_000, 1),
            (13_000, 13_000),
        )
    }
    made |= {
        "PNG of zeros, 5,000 x 5,000": png(5000, 5000, bytes(5000 * 15_001)),
        "PNG with rows of 64 MB": png(8, 8, bytes(1 << 26)),
        "PNG of 3 bits": png(8, 8, bytes(200), bits=3), "PNG of colour 7": png(8, 8, bytes(200), colour=7),
        "PNG interlaced": png(8, 8, bytes(200), interlace=1), "PNG interlaced by 9": png(8, 8, bytes(200), interlace=9),
        "PNG with a text of 64 MB": png(8, 8, bytes(200), chunk(b"zTXt", b"k\0\0" + _zeros())),
        "PNG with a profile of 64 MB": png(8, 8, bytes(200), chunk(b"iCCP", b"k\0\0" + _zeros())),
        "PNG with an iTXt of 64 MB": png(8, 8, bytes(200), chunk(b"iTXt", b"k\0\1\0\0\0" + _zeros())),
        "PNG with 50,000 texts": png(8, 8, bytes(200), *[chunk(b"tEXt", b"k%d\0v" % i) for i in range(50_000)]),
        "PNG with a palette that is short": png(8, 8, b"\xff" * 72, chunk(b"PLTE", b"\0\0\0"), colour=3),
        "PNG with transparency beyond": png(8, 8, bytes(200), chunk(b"tRNS", bytes(1000))),
        "PNG with a broken EXIF": png(8, 8, bytes(200), chunk(b"eXIf", b"MM\0*\xff\xff\xff\xff")),
        "PNG with an endless EXIF": png(8, 8, bytes(200), chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xff" + bytes(100))),
        "PNG with chunks of no length": b"\x89PNG\r\n\x1a\n" + b"\xff\xff\xff\xffIHDR",
        "PNG of many frames": good[:8] + chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)) + good[8:],
        "nothing": b"", "one byte": b"\x89", "zeros": bytes(10_000), "ones": b"\xff" * 10_000,
        "HTML": b"<html><script>alert(1)</script></html>",
        "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'><script>x</script></svg>",
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(%pipe%touch canary) (w) file\n",
        "PDF": b"%PDF-1.7\n1 0 obj<</S/JavaScript/JS(app.alert(1))>>",
        "a pickle": b"\x80\x02cos\nsystem\nX\x0c\0\0\0touch canary\x85R.",
        "a zip": _zipped(), "PNG and a zip": good + _zipped(), "PNG and a script": good + b"\n#!/bin/sh\ntouch canary\n",
        "GIF and JavaScript": gif[:6] + b"/*" + gif[8:] + b"*/=1;alert(1)",
        "JPEG and HTML": jpeg + b"<script>alert(1)</script>",
        "JPEG with a comment of HTML": jpeg[:2] + b"\xff\xfe\x00\x1b<script>alert(1)</script>" + jpeg[2:],
        "JPEG of 65,535 x 65,535": _sized(jpeg, 65535, 65535), "JPEG of 0 x 0": _sized(jpeg, 0, 0),
        "JPEG of 0 rows": _sized(jpeg, 0, 32),
        "JPEG of 20,000 x 20,000": _sized(jpeg, 20_000, 20_000),
        "GIF of 65,535 x 65,535": gif[:6] + b"\xff" * 4 + gif[10:], "GIF of 0 x 0": gif[:6] + bytes(4) + gif[10:],
        "GIF that never ends": gif[:-1] + b"\x2c" + bytes(8) * 1000,
        "BMP of 2^31": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0,
        0) + bytes(99),
        "BMP of negative size": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, -8, -8, 1, 24, 0, 0, 0, 0, 0,
        0) + bytes(200),
        "BMP of run lengths": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, 30_000, 30_000, 1, 8, 1, 0, 0, 0, 0,
        0) + bytes(99),
        "PPM of 10^9": b"P6 1000000000 1000000000 255\n", "PPM of negative size": b"P6 -8 -8 255\n" + bytes(192),
        "PPM of long numbers": b"P6 " + b"9" * 10**6 + b" 8 255\n", "PPM of maxval 0": b"P6 8 8 0\n" + bytes(192),
        "PPM of text": b"P3 8 8 255\n" + b"9" * 10**6, "PFM of NaN": b"PF 8 8 -1.0\n" + b"\xff" * 768,
        "Pf of NaN scale": b"Pf 8 8 nan\n" + bytes(256),
        "PPM of a comment": b"P6 #" + b"x" * 10**6, "PPM without a size": b"P6\n",
        "TIFF of floats": saved(np.full((8, 8), np.nan, np.float32), "TIFF"), "TIFF of 32 bits": saved(np.full((8, 8), 2**30,
        np.int32), "TIFF"),
        "TIFF that loops": b"II*\0\x08\0\0\0\x00\x00\x08\0\0\0",
        "TIFF of 65,535 tags": b"II*\0\x08\0\0\0\xff\xff" + bytes(5000),
        "TIFF of 2^32": _tiff(2**32 - 1, 2**32 - 1), "TIFF of 0 x 0": _tiff(0, 0), "TIFF of 40,000 x 40,000": _tiff(40_000,
        40_000),
        "WEBP of 16,383 x 16,383": saved(np.zeros((4, 4, 3), np.uint8), "WEBP",
        lossless=True)[:20] + b"\x2f\xff\xff\xff\x0f" + bytes(20),
        "grey with alpha": saved(np.zeros((8, 8, 2), np.uint8), "PNG"), "CMYK": saved(np.zeros((8, 8, 3), np.uint8), "JPEG",
        "CMYK"),
        "1 bit": saved(np.zeros((8, 8), np.uint8), "PNG", "1"), "1 x 1": saved(np.zeros((1, 1, 3), np.uint8), "PNG"),
        "1 x 60,000": saved(np.zeros((1, 60_000, 3), np.uint8), "PNG"), "60,000 x 1": saved(np.zeros((60_000, 1, 3),
        np.uint8), "PNG"),
        "4,000 x 4,000": saved(np.zeros((4000, 4000, 3), np.uint8), "JPEG"),
        "EXIF turned by 99": saved(np.zeros((8, 8, 3), np.uint8), "JPEG",
        exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0c\0\0\0\0\0\0\0"),
        "300 frames": _frames(300),
        "a title with an escape": saved(np.zeros((8, 8, 3), np.uint8), "PNG", pnginfo=_info("\x1b]0;x\x07<script>")),
    }  # fmt: skip
    files = {name: {"x.png": content} for name, content in made.items()}
    names = ("\x1b[31mred.png", "<script>alert(1)<.png", "=cmd|calc.png", "\u202egnp.exe.png", "a\nb.png", "-rf.png",
    "%s%n.png", "a b'\".png",
             "\udcff.png", "--help.png", "x" * 240 + ".png", "[red]x[.png", "*.png", "~.png", "$(touch canary).png",
             "`touch canary`.png",
             "{0.__class__}.png", "CON.png", ".png", "x.PNG", "x.png.exe", "\x07\x08\x7f.png", "\u2028.png", "+1.png",
             "@SUM(1).png")  # fmt: skip
    files |= {f"a name {name[:30]!r}": {f"./{name}": good} for name in names}
    files |= {f"a broken one called {name[:30]!r}": {f"./{name}": good[:50]} for name in names}
    return files


def _info(title: str) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", title)
    return info


def _frames(count: int) -> bytes:
    file = io.BytesIO()
    each = [Image.new("P", (64, 64), i % 255) for i in range(count)]
    each[0].save(file, "GIF", save_all=True, append_images=each[1:])
    return file.getvalue()


def _zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("../canary", b"x")
    return file.getvalue()


def _sized(jpeg: bytes, height: int, width: int) -> bytes:
    at = jpeg.find(b"\xff\xc0")
    return jpeg[: at + 5] + struct.pack(">HH", height, width) + jpeg[at + 9 :]


def _tiff(width: int, height: int) -> bytes:
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 100), (277, 3, 1), (278, 4,
    height),
            (279, 4, 64)]  # fmt: skip
    directory = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + directory + bytes(200)
