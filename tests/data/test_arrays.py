"""Arrays in every layout are the picture that was put in, or are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from images import picture
from PIL import Image

from robust_transfer.data.arrays import picture_of, pictures_of
from robust_transfer.errors import DataError

RGB = np.stack([np.resize(picture(0, i, 12), (5, 7, 3)) for i in range(4)])
FIRST = np.ascontiguousarray(np.moveaxis(RGB, -1, 1))


def rgb(images: Any) -> np.ndarray[Any, Any]:
    return np.stack([np.asarray(images.open(i).convert("RGB")) for i in range(len(images))])


@pytest.mark.parametrize("given", [RGB, FIRST, torch.from_numpy(RGB), torch.from_numpy(FIRST), FIRST[::-1][::-1]])
def test_channels_first_or_last(given: Any) -> None:
    np.testing.assert_array_equal(rgb(pictures_of(given)), RGB)


@pytest.mark.parametrize("given", [RGB[..., 0], RGB[..., :1], FIRST[:, :1]])
def test_grey_pictures(given: Any) -> None:
    np.testing.assert_array_equal(rgb(pictures_of(given)), np.repeat(RGB[..., :1], 3, -1))


def test_transparency_stays_what_it_is() -> None:
    clear = np.concatenate([RGB, np.zeros((4, 5, 7, 1), np.uint8)], -1)
    assert pictures_of(clear).open(0).mode == "RGBA"


@pytest.mark.parametrize("given", [RGB[0], torch.from_numpy(FIRST[0]), FIRST[0]])
def test_one_picture(given: Any) -> None:
    np.testing.assert_array_equal(picture_of(given), RGB[0])


def test_a_tensor_has_its_channels_first_and_an_array_that_may_have_them_anywhere_is_refused() -> None:
    narrow = RGB[0, :, :3]  # 5 x 3 pixels, and as a tensor (3, 5, 3)
    np.testing.assert_array_equal(picture_of(torch.from_numpy(np.moveaxis(narrow, -1, 0).copy())), narrow)
    with pytest.raises(DataError, match="the channels may be first or last"):
        picture_of(np.moveaxis(narrow, -1, 0))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (RGB / np.float32(255), r"not float32: \(255 \* images\).round\(\) as uint8, if they are in \[0, 1\]"),
        (torch.from_numpy(FIRST).bfloat16(), r"not float32: \(255"),
        (RGB.astype(np.int64), "not int64: their range is not known"),
        (RGB > 9, "not bool: their range is not known"),
        (np.zeros((2, 3, 9, 3), np.uint8), "the channels may be first or last"),
        (np.zeros((2, 5, 9, 2), np.uint8), r"not \(2, 5, 9, 2\)"),
        (np.zeros((2, 5), np.uint8), r"not \(2, 5\)"),
        (np.zeros((2, 0, 4, 3), np.uint8), "images of no pixels"),
        (torch.zeros(2, 3, 4, 5, dtype=torch.uint8, device="meta"), "not a meta tensor"),
        ([RGB], "not list"),
    ],
)
def test_other_arrays_are_refused(given: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        pictures_of(given)


def test_pictures_are_shared_and_not_copied() -> None:
    images = pictures_of(RGB)
    assert np.shares_memory(images.arrays, RGB)
    assert Image.fromarray(RGB[1]).tobytes() == images.open(1).tobytes()
