"""Resizing and cropping, to the pixel as torchvision and timm do it on Pillow's images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from images import picture
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import v2 as transforms

from robust_transfer.data.resizing import resized
from robust_transfer.preprocessing import Geometry, Preprocessing

SIZES = [(50, 50), (51, 50), (50, 51), (97, 50), (33, 80), (20, 31), (31, 20), (32, 32), (36, 36), (7, 90), (1, 3)]


def image(width: int, height: int) -> Image.Image:
    square = Image.fromarray(picture(0, width + height, 32))
    return square.resize((width, height), Image.Resampling.LANCZOS)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).transpose(2, 0, 1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("short", "crop"), [(36, 32), (37, 32), (36, 31), (32, 32), (29, 32), (30, 37)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest", "lanczos", "box", "hamming"])
def test_crops_are_torchvisions(size: tuple[int, int], short: int, crop: int, interpolation: Any) -> None:
    mode = InterpolationMode(interpolation)
    theirs = transforms.Compose([transforms.Resize(short, mode), transforms.CenterCrop(crop)])
    how = Geometry(size=crop, resize="crop", short=short, interpolation=interpolation)
    np.testing.assert_array_equal(resized(image(*size), how), pixels(theirs(image(*size))))


@pytest.mark.parametrize(
    ("mode", "share"), [("center", 0.875), ("center", 0.95), ("center", 1.0), ("center", 1.15), ("squash", 0.9)]
)
@pytest.mark.parametrize("size", [(50, 61), (90, 31), (40, 40)])
def test_crops_are_timms(size: tuple[int, int], mode: str, share: float) -> None:
    from timm.data import create_transform

    cfg = {"input_size": (3, 38, 38), "crop_pct": share, "crop_mode": mode, "interpolation": "bicubic"}
    theirs = create_transform(**cfg, mean=(0.0,) * 3, std=(1.0,) * 3)
    expected = (255 * np.asarray(theirs(image(*size)))).round().astype(np.uint8)
    found = resized(image(*size), Preprocessing.from_timm(cfg).geometry)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", SIZES)
def test_squashing_is_pillows_bicubic(size: tuple[int, int]) -> None:
    expected = image(*size).resize((32, 32), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(resized(image(*size), Geometry(size=32)), pixels(expected))
