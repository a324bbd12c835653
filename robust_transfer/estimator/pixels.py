"""Images from arrays for an estimator: unknown ranges and shapes are refused, never guessed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

ImageShape = tuple[int, int] | tuple[int, int, int] | Literal["square"] | None
PixelRange = tuple[float, float] | Literal["fit"] | None
Pictures = NDArray[np.uint8]  # (n, H, W) grey, or (n, H, W, 3)


@dataclass(frozen=True)
class Pixels:
    """Conversion of arrays to images: ``shape`` of the image in each row of a 2-D array, ``span`` from black to white.

    ``fitted``: the span is that of the training data; values beyond are clipped.
    """

    shape: ImageShape = None
    span: tuple[float, float] | None = None
    fitted: bool = False

    @classmethod
    def of(cls, shape: ImageShape, span: PixelRange, given: NDArray[Any]) -> Pixels:
        """Conversion defined by the parameters; ``span="fit"`` is computed on ``given``.

        Raises ValueError for missing ones.
        """
        sides = shape if isinstance(shape, tuple | list) else ()
        usable = len(sides) in (2, 3) and all(side >= 1 for side in sides) and sides[2:] in ((), (3,), [3])
        if shape not in (None, "square") and not usable:
            raise ValueError(f"image_shape is (height, width), (height, width, 3), 'square' or None, not {shape!r}")
        if isinstance(span, str):
            if span != "fit":
                raise ValueError(f"pixel_range is (low, high), 'fit' or None, not {span!r}")
            return cls(shape, (float(given.min()), float(given.max())), fitted=True)
        if span is not None and not (len(span) == 2 and span[0] < span[1]):
            raise ValueError(f"pixel_range is (low, high), the values of black and white, not {span!r}")
        return cls(shape, None if span is None else (float(span[0]), float(span[1])))

    def pictures(self, given: NDArray[Any]) -> Pictures:
        """Images of an array ``(n, features)``, ``(n, H, W)`` or ``(n, H, W, 3)``; ValueError for anything else."""
        if given.ndim == 2:
            given = self._unfolded(given)
        if given.ndim not in (3, 4) or (given.ndim == 4 and given.shape[3] != 3):
            hint = (
                ": move the channels last, X.transpose(0, 2, 3, 1)" if given.ndim == 4 and given.shape[1] == 3 else ""
            )
            raise ValueError(f"pictures are (n, H, W) grey or (n, H, W, 3), not {given.shape}{hint}")
        if 0 in given.shape[1:]:
            raise ValueError(f"pictures of no pixels hold nothing: X has the shape {given.shape}")
        return np.ascontiguousarray(self._eight_bits(given))

    def _unfolded(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Rows as images; with ``square`` features fill the smallest square line by line, the rest is black."""
        n, features = rows.shape
        if self.shape is None:
            raise ValueError(
                f"X is 2-D, and rows of {features} values say nothing of a picture: give image_shape=(height, width) or "
                "(height, width, 3) where they are one's pixels, or image_shape='square' to draw them as one"
            )
        if isinstance(self.shape, str):
            side = math.isqrt(features - 1) + 1
            square = np.full((n, side * side), self.span[0] if self.span is not None else 0, rows.dtype)
            square[:, :features] = rows
            return square.reshape(n, side, side)
        if math.prod(self.shape) != features:
            raise ValueError(
                f"image_shape={self.shape} has {math.prod(self.shape)} values, and a row of X has {features}"
            )
        return rows.reshape(n, *self.shape)

    def _eight_bits(self, given: NDArray[Any]) -> Pictures:
        if self.span is None:
            if given.dtype != np.uint8:
                raise ValueError(
                    f"values of {given.dtype} have no range of their own: give uint8, or pixel_range=(low, high), the values "
                    "of black and white, or pixel_range='fit' for those of X in fit"
                )
            return given
        low, high = self.span
        if not self.fitted and given.size and (given.min() < low or given.max() > high):
            raise ValueError(f"X has values from {given.min():g} to {given.max():g}, beyond pixel_range={self.span}")
        # in steps, so that no difference of values near the largest of their type overflows
        scaled = (given.astype(np.float64) / 2 - low / 2) / max((high / 2 - low / 2), np.finfo(float).tiny)
        eight: Pictures = np.rint(255 * scaled.clip(0, 1)).astype(np.uint8)
        return eight
