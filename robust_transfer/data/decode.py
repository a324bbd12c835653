"""Any picture as RGB uint8: grey, palettes, transparency, CMYK, 1 and 16 bits, EXIF orientation."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

CONVERSION = "RGB uint8 (EXIF orientation applied, transparency over white, 16 bits scaled to 8)"

# The formats that are read, in the order they are tried: PIL knows others, and one (EPS) runs an interpreter.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000")

_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def open_image(file: Path | BinaryIO) -> Image.Image:
    """The picture in ``file``, header read only; raises UnidentifiedImageError if it has none of the formats."""
    return Image.open(file, formats=FORMATS)


def to_rgb(image: Image.Image) -> Image.Image:
    """``image`` in mode RGB; see :data:`CONVERSION`. Of an animation, the first frame.

    Raises ValueError (or what PIL raises) for pictures that cannot be converted, such as floating-point ones.
    """
    image.load()
    # a damaged EXIF block (the picture itself has been decoded by now) does not say how to turn it
    with suppress(SyntaxError, struct.error):
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode in _SIXTEEN_BITS:
        return _eight_bits(image).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range, so save it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """65535 becomes 255: PIL itself would clip, and turn most of a 16-bit picture white."""
    values = np.asarray(image).astype(np.int64).clip(0, 65535)
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))
