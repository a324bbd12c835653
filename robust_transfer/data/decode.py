"""Decoding of any image to RGB uint8: grey, palettes, transparency, CMYK, 1 and 16 bits, EXIF orientation."""

from __future__ import annotations

import functools
import struct
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, features

CONVERSION = "RGB uint8 (EXIF orientation applied, transparency over white, 16 bits scaled to 8)"

# The formats that are read, in the order they are tried: PIL knows others, and one (EPS) runs an interpreter.
PILLOW_FORMATS = (
    "PNG",
    "JPEG",
    "WEBP",
    "BMP",
    "GIF",
    "TIFF",
    "PPM",
    "JPEG2000",
    # Pillow before 11.3 does not know the name, and would warn of it
    *(["AVIF"] if "avif" in features.modules and features.check("avif") else []),
)

_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
_WHITE = 255


@functools.cache
def extensions() -> frozenset[str]:
    """Extensions of the files of these formats, in lower case: ``.png``, ``.jpg``, ``.jfif`` ..."""
    return frozenset(extension for extension, name in Image.registered_extensions().items() if name in PILLOW_FORMATS)


def open_image(file: str | Path | BinaryIO) -> Image.Image:
    """Picture in ``file``, header read only; raises UnidentifiedImageError if it has none of the formats."""
    return Image.open(file, formats=PILLOW_FORMATS)


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
    if image.mode in _SIXTEEN_BITS or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return _eight_bits(image).convert("RGB")  # older versions of PIL read 16 bits of these formats as 32
    if image.mode in ("F", "I"):
        kind = "floating-point" if image.mode == "F" else "32-bit integer"
        raise ValueError(f"{kind} pixels have no agreed range, so save it with 8 or 16 bits")
    if image.has_transparency_data:
        key = image.info.get("transparency")
        if image.mode == "RGB" and isinstance(key, tuple) and max(key) > 255:  # of a picture that had 16 bits a channel
            image.info["transparency"] = tuple(value >> 8 for value in key)
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """65535 becomes 255: PIL itself would clip, and turn most of a 16-bit picture white. The transparent value is white."""
    values = np.asarray(image).astype(np.int64).clip(0, 65535)
    pixels = ((values + 128) // 257).astype(np.uint8)
    if isinstance(key := image.info.get("transparency"), int):
        pixels[values == key] = _WHITE
    return Image.fromarray(pixels)
