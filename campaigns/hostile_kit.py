"""Harmless files that the hostile ones are made of: a run folder, weights, pictures; and ways to damage bytes."""

from __future__ import annotations

import functools
import io
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import hostile_case  # noqa: F401 - the helpers of the tests are on the path from here on
import numpy as np
from PIL import Image

from images import encoded, picture  # isort: skip

CLASSES = tuple("0123456789")
SHARES = (0.0, 0.05, 0.2, 0.5, 0.8, 0.95, 0.999)  # of a file that is cut off


@functools.cache
def run_folder(names: tuple[str, ...] = CLASSES) -> Mapping[str, bytes]:
    """Files of a run folder with an evaluation, of a network with these classes."""
    from report_helpers import evaluation, network, outcomes

    with tempfile.TemporaryDirectory() as folder:
        made = network(names, data={"name": "x", "train": 500, "val": 20}, threat="linf:8/255").save(Path(folder))
        evaluation(outcomes(60, len(names)), names, model_hash=made.hash).save(Path(folder))
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def put(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write files below a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def put_run(folder: Path, **changes: bytes) -> Path:
    """The run folder, some of its files changed; ``__`` stands for a dot in their names."""
    return put(folder, {**run_folder(), **{name.replace("__", "."): content for name, content in changes.items()}})


def pictures(classes: Sequence[str] = ("cat", "dog"), each: int = 4) -> dict[str, bytes]:
    """Image files of a data set, by their paths."""
    return {
        f"train/{name}/{i}.png": encoded(picture(number, i)) for number, name in enumerate(classes) for i in range(each)
    } | {
        f"test/{name}/{i}.png": encoded(picture(number, 100 + i))
        for number, name in enumerate(classes)
        for i in range(2)
    }


@functools.cache
def image_files() -> Mapping[str, bytes]:
    """A small picture in each format that is read, by its ending."""
    made = dict[str, bytes]()
    pixels = Image.fromarray(np.kron(picture(0, 0), np.ones((4, 4, 1), np.uint8)))
    for ending, name in (("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP"), ("bmp", "BMP"), ("gif", "GIF"), ("tiff", "TIFF"),
                         ("ppm", "PPM"), ("jp2", "JPEG2000"), ("avif", "AVIF")):  # fmt: skip
        file = io.BytesIO()
        try:
            pixels.save(file, name)
        except (OSError, KeyError):  # a codec that this machine lacks
            continue
        made[ending] = file.getvalue()
    return made


def cut(content: bytes) -> Iterator[tuple[str, bytes]]:
    """The content cut off."""
    for share in SHARES:
        yield f"cut off at {100 * share:g} %", content[: int(len(content) * share)]


def flipped(
    content: bytes, chance: random.Random, times: int, within: int | None = None
) -> Iterator[tuple[str, bytes]]:
    """The content with one to eight bits flipped, in its first ``within`` bytes."""
    for number in range(times):
        made = bytearray(content)
        for _ in range(chance.choice((1, 2, 8))):
            made[chance.randrange(min(len(made), within or len(made)))] ^= 1 << chance.randrange(8)
        yield f"flipped bits {number}", bytes(made)


def spliced(content: bytes, chance: random.Random, times: int) -> Iterator[tuple[str, bytes]]:
    """The content with a run of bytes removed, repeated, or made 0 or 255."""
    for number in range(times):
        start = chance.randrange(len(content))
        part = content[start : start + chance.choice((1, 4, 16, 256))]
        new = chance.choice((b"", part * 3, bytes(len(part)), b"\xff" * len(part)))
        yield f"spliced {number}", content[:start] + new + content[start + len(part) :]


def writes(name: str, content: bytes | Callable[[], bytes], *words: object) -> Callable[[Path], Sequence[object]]:
    """``make`` of a case with one file."""

    def make(folder: Path) -> Sequence[object]:
        put(folder, {name: content() if callable(content) else content})
        return words

    return make
