"""Image to the pixels of a :class:`Geometry`: resized and cropped with Pillow, to the pixel as torchvision and timm do it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from robust_transfer.preprocessing import Geometry

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def resized(image: Image.Image, how: Geometry) -> NDArray[np.uint8]:
    """RGB image as uint8 ``(3, size, size)``."""
    wanted = _resized_to(image.size, how)
    if image.size != wanted:
        image = image.resize(wanted, FILTERS[how.interpolation])
    if image.size != (how.size, how.size):
        image = image.crop(_centre(image.size, how.size))  # what lies outside is black
    return np.asarray(image).transpose(2, 0, 1)


def _resized_to(given: tuple[int, int], how: Geometry) -> tuple[int, int]:
    """Width and height before cropping."""
    side = how.resized
    if how.resize == "squash":
        return side, side
    width, height = given
    if width <= height:
        return side, int(side * height / width)
    return int(side * width / height), side


def _centre(given: tuple[int, int], size: int) -> tuple[int, int, int, int]:
    """Box of the central ``size x size``: halves are rounded to even, as Python rounds; down where the image is smaller."""
    starts = [round((side - size) / 2) if side >= size else -((size - side) // 2) for side in given]
    return starts[0], starts[1], starts[0] + size, starts[1] + size
