"""Pictures from arrays: what an array says, and what is refused because it says nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from robust_transfer.estimator.pixels import Pixels

GREY = np.arange(48, dtype=np.uint8).reshape(2, 4, 6)
COLOUR = np.arange(144, dtype=np.uint8).reshape(2, 4, 6, 3)


def test_bytes_are_pictures_as_they_are() -> None:
    for pictures in (GREY, COLOUR, COLOUR[:, ::-1]):
        found = Pixels().pictures(pictures)
        assert found.dtype == np.uint8
        assert (found == pictures).all()


def test_rows_are_what_image_shape_says() -> None:
    assert (Pixels((4, 6)).pictures(GREY.reshape(2, 24)) == GREY).all()
    assert (Pixels((4, 6, 3)).pictures(COLOUR.reshape(2, 72)) == COLOUR).all()


def test_a_range_is_from_black_to_white() -> None:
    values = np.array([[[-1.0, 0.0], [0.5, 1.0]]])
    assert Pixels.of(None, (-1, 1), values).pictures(values).tolist() == [[[0, 128], [191, 255]]]
    for other, said in ((values + 0.1, "from -0.9 to 1.1, beyond"), (values - 0.1, "beyond pixel_range")):
        with pytest.raises(ValueError, match=said):
            Pixels.of(None, (-1, 1), values).pictures(other)


def test_a_fitted_range_is_that_of_fit_and_clips() -> None:
    seen = np.array([[[2.0, 4.0], [3.0, 2.5]]])
    pixels = Pixels.of(None, "fit", seen)
    assert pixels.pictures(seen).tolist() == [[[0, 255], [128, 64]]]
    assert pixels.pictures(2 * seen - 3).tolist() == [[[0, 255], [128, 0]]]
    assert Pixels.of(None, "fit", np.full((1, 2, 2), 7.0)).pictures(np.full((1, 2, 2), 7.0)).max() == 0
    largest = np.finfo(float).max
    assert Pixels.of(None, (-largest, largest), seen).pictures(np.array([[[-largest, largest]]])).tolist() == [
        [[0, 255]]
    ]


@pytest.mark.parametrize(("features", "side"), [(1, 1), (2, 2), (4, 2), (5, 3), (16, 4), (17, 5)])
def test_a_square_holds_all_features_line_by_line(features: int, side: int) -> None:
    rows = np.arange(1, 1 + 2 * features, dtype=np.float64).reshape(2, features)
    span = (-1.0, 100.0)
    found = Pixels("square", span).pictures(rows)
    assert found.shape == (2, side, side)
    flat = found.reshape(2, -1)
    assert (flat[:, :features] == np.rint(255 * (rows + 1) / 101)).all()
    assert not flat[:, features:].any()


REFUSED: list[tuple[Any, Any, NDArray[Any], str]] = [
    (None, None, GREY.reshape(2, 24), "give image_shape"),
    ((4, 5), None, GREY.reshape(2, 24), "has 20 values, and a row of X has 24"),
    (None, None, GREY / 255, "float64 have no range of their own"),
    (None, None, GREY.astype(np.int64), "int64 have no range of their own"),
    (None, None, COLOUR.transpose(0, 3, 1, 2), "move the channels last"),
    (None, None, np.zeros((2, 4, 4, 4), np.uint8), "pictures are"),
    (None, None, np.zeros((2, 4, 0), np.uint8), "no pixels"),
    (None, None, np.zeros(4, np.uint8), "pictures are"),
    ("round", None, GREY, "image_shape is"),
    ((4, 6, 4), None, GREY, "image_shape is"),
    ((0, 6), None, GREY, "image_shape is"),
    (None, "all", GREY, "pixel_range is"),
    (None, (1, 1), GREY, "pixel_range is"),
]


@pytest.mark.parametrize(("shape", "span", "given", "said"), REFUSED)
def test_what_says_nothing_is_refused(shape: Any, span: Any, given: NDArray[Any], said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        Pixels.of(shape, span, given).pictures(given)
