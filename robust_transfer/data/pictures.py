"""Pictures that Python holds one by one, of PIL or as arrays, read as files of the same mode are."""

from __future__ import annotations

import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from robust_transfer.data.arrays import picture_of
from robust_transfer.data.encoded import Images
from robust_transfer.errors import DataError

SIXTEEN_BITS = "arrays of 16 bits are read as files of 16 bits are: 65535 is white"


def is_picture(item: Any) -> bool:
    """True for what :class:`Pictures` takes, or refuses with a sentence of its own."""
    return isinstance(item, Image.Image | np.ndarray | Tensor)


class Pictures(Images):
    """Pictures of PIL, and arrays or tensors of one image each; ``called`` is what messages call their row.

    They are shared, not copied, and left as they are. Raises :class:`DataError` for arrays that are no images.
    """

    def __init__(self, items: Sequence[Any], called: str) -> None:
        self._called, self._lock, self._sixteen = called, threading.Lock(), False
        self.items = [self._checked(item, row) for row, item in enumerate(items)]

    @property
    def notes(self) -> list[str]:
        """Notes on assumptions made."""
        return [SIXTEEN_BITS] if self._sixteen else []

    def __len__(self) -> int:
        return len(self.items)

    def open(self, position: int) -> Image.Image:
        """Picture of its own, which may be turned and closed."""
        item = self.items[position]
        if not isinstance(item, Image.Image):
            return Image.fromarray(item)
        with (
            self._lock
        ):  # a picture that is not read yet is a file, with one position; and one may stand in several rows
            return _twin(item)

    def where(self, position: int) -> str:
        """Its row."""
        return f"the image in row {position} (from 0) of {self._called}"

    def _checked(self, item: Any, row: int) -> Any:
        if isinstance(item, Image.Image):
            return item
        if isinstance(item, np.ndarray) and item.dtype == np.uint16 and item.ndim == 2 and item.size:
            self._sixteen = True
            return item
        try:
            return picture_of(item)
        except DataError as error:
            raise DataError(f"row {row} (from 0) of {self._called}: {error}") from None


def _twin(image: Image.Image) -> Image.Image:
    """Copy of a picture, turned as its EXIF block says, which a copy may not have."""
    image.load()
    twin: Image.Image | None = None
    with suppress(SyntaxError, struct.error):  # a damaged block says nothing
        twin = ImageOps.exif_transpose(image)
    twin = twin if twin is not None else image.copy()
    twin.format = image.format
    return twin
