"""Images to predict, one by one: files, folders, patterns, images in memory. Unreadable ones carry an error."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from robust_transfer.config import expect
from robust_transfer.data.decode import open_image
from robust_transfer.data.encoded import Images
from robust_transfer.data.formats.disk import Disk
from robust_transfer.errors import ConfigError, DataError
from robust_transfer.files import expanded
from robust_transfer.progress import tell

ONE = (str, PathLike, Image.Image, np.ndarray)
PATTERN = frozenset("*?[")


@dataclass(frozen=True)
class Picture:
    """Image by its name: its file or pixels, or the ``error`` in their place."""

    name: str
    content: Path | Image.Image | None = None
    error: str | None = None


class Pictures(Images):
    """Readable images."""

    def __init__(self, pictures: list[Picture]) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def open(self, position: int) -> Image.Image:
        """Open the file, or a copy of an image in memory: decoding may rotate it."""
        content = self.pictures[position].content
        return content.copy() if isinstance(content, Image.Image) else open_image(Path(content or ""))

    def where(self, position: int) -> str:
        """Picture's name."""
        return self.pictures[position].name


def each_picture(images: Any, *, hidden: bool) -> Iterator[Picture]:
    """Images of a file, a folder (recursively), a pattern such as ``*.png``, a PIL image, uint8 pixels, or of many.

    Nothing is listed before its turn; omissions in a folder are noted unless ``hidden``. Pixels are ``(H, W, 3)`` or
    grey ``(H, W)``. Raises :class:`ConfigError` for anything else.
    """
    expect("images", images, *ONE, Iterable, hint="such as a path, or a list of paths")
    for number, one in enumerate([images] if isinstance(images, ONE) else images):
        expect(f"image {number}", one, *ONE, hint="give paths, PIL images or uint8 arrays (H, W, 3)")
        if isinstance(one, Image.Image):
            yield Picture(f"image {number}", one)
        elif isinstance(one, np.ndarray):
            yield Picture(f"image {number}", _from_array(one, number))
        else:
            yield from _of_path(str(one), hidden)


def _from_array(pixels: np.ndarray[Any, Any], number: int) -> Image.Image:
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)) or 0 in pixels.shape:
        raise ConfigError(
            f"image {number} is to be uint8 (H, W, 3), or (H, W) for grey, not {pixels.dtype} {pixels.shape}"
        )
    return Image.fromarray(pixels)


def _of_path(text: str, hidden: bool) -> Iterator[Picture]:
    """Images of a typed path; an existing file takes precedence over a pattern."""
    path = expanded(text)
    try:
        if path.is_dir():
            yield from _in_folder(path, hidden)
        elif path.exists() or path.is_symlink() or not PATTERN.intersection(text):
            yield Picture(text, path) if path.exists() else Picture(text, error=f"{text} does not exist")
        else:
            found = sorted(glob.glob(str(path), recursive=True))
            if not found:
                yield Picture(text, error=f"nothing is called {text}")
            for one in found:
                folder = Path(one).is_dir()
                yield from _in_folder(Path(one), hidden) if folder else iter([Picture(one, Path(one))])
    except (OSError, ValueError) as error:  # a folder above that may not be entered, a name that is none
        yield Picture(text, error=f"cannot read {text}: {getattr(error, 'strerror', None) or error}")


def _in_folder(folder: Path, hidden: bool) -> Iterator[Picture]:
    disk = Disk()
    try:
        found = disk.images(folder)
    except DataError as error:
        yield Picture(str(folder), error=str(error))
        return
    for note in disk.notes():
        tell(hidden, f"note: {folder}: {note}")
    if not found:
        yield Picture(str(folder), error=f"the folder {folder} holds no images")
    for path in found:
        yield Picture(str(path), path)
