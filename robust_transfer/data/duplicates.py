"""Copies of images: the same pixels, or the same look after re-encoding, resizing, other contrast or a mirror.

Exact copies are found by sorting. For looks, images are sorted by the luma of their middle, and compared only with those
that are close in it, as products of matrices of signs: all pairs that match are found, none is left to chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robust_transfer.data.fingerprints import CELLS, FREQUENCIES, Fingerprints, mirrored

DISTANCE = 15  # so many of the 96 signs may differ
SHADE = 5  # and each mean by so much, of 255
# Or so few signs, where the means of luma are the other's after a change of brightness and contrast, but for SHADE.
CLOSE, CONTRAST, BRIGHTNESS = 8, (0.6, 1.6), 25
_CELLS, _MIDDLE = CELLS**2, 4
_ROWS, _COLUMNS = 512, 8192  # how many are compared at a time


@dataclass(frozen=True, eq=False)
class Copies:
    """For each of n images: the index of a copy among the others, -1 where there is none, and whether it is exact."""

    partner: NDArray[np.int64]
    exact: NDArray[np.bool_]

    @property
    def found(self) -> NDArray[np.bool_]:
        """Mask ``(n,)`` of the images that have a copy."""
        return self.partner >= 0


def find_copies(these: Fingerprints, those: Fingerprints) -> Copies:
    """Copy in ``those`` of each of ``these``: an exact one if there is one, else the one that looks most alike."""
    partner, exact = np.full(len(these), -1, np.int64), np.zeros(len(these), bool)
    if len(these) and len(those):
        keys, wanted = those.exact, these.exact
        order = np.argsort(keys, kind="stable")
        place = np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)
        exact = keys[order][place] == wanted
        partner[exact] = order[place][exact]
        for turned in (these, mirrored(these)):
            left = np.flatnonzero((partner < 0) & these.signs.any(1))
            partner[left] = _alike(turned.take(left), those)
    return Copies(partner, exact)


def _alike(these: Fingerprints, those: Fingerprints) -> NDArray[np.int64]:
    """Index of the image in ``those`` that is nearest to each of ``these`` and near enough, else -1."""
    best, nearest = np.full(len(these), DISTANCE + 1), np.full(len(these), -1, np.int64)
    there = np.flatnonzero(those.signs.any(1))
    there = there[np.argsort(those.shades[there, _MIDDLE], kind="stable")]
    shades, signs = those.shades[there].astype(np.int16), _plus_minus(those.take(there))
    order = np.argsort(these.shades[:, _MIDDLE], kind="stable")
    for start in range(0, len(order), _ROWS):
        rows = order[start : start + _ROWS]
        mine, own = _plus_minus(these.take(rows)), these.shades[rows].astype(np.int16)
        low = int(np.searchsorted(shades[:, _MIDDLE], own[0, _MIDDLE] - BRIGHTNESS, "left"))
        high = int(np.searchsorted(shades[:, _MIDDLE], own[-1, _MIDDLE] + BRIGHTNESS, "right"))
        for begin in range(low, high, _COLUMNS):
            block = slice(begin, min(begin + _COLUMNS, high))
            # the product is the number of signs that agree less those that differ
            agreement = mine @ signs[block].T
            i, j = np.nonzero(agreement >= FREQUENCIES - 2 * DISTANCE)
            distances, a, b = (FREQUENCIES - agreement[i, j]) / 2, own[i], shades[block][j]
            alike = (np.abs(a - b) <= SHADE).all(1) | ((distances <= CLOSE) & _other_contrast(a, b))
            for row, column, distance in zip(
                i[alike].tolist(), j[alike].tolist(), distances[alike].tolist(), strict=True
            ):
                if distance < best[rows[row]]:
                    best[rows[row]], nearest[rows[row]] = distance, there[begin + column]
    return nearest


def _other_contrast(a: NDArray[np.int16], b: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Mask ``(n,)``: the luma of ``b`` is that of ``a`` after a change of brightness and contrast, whatever the colour."""
    x, y = (some[:, :_CELLS] - some[:, :_CELLS].mean(1, keepdims=True) for some in (a, b))
    slope = ((x * y).sum(1) / np.maximum((x * x).sum(1), 1e-9)).clip(*CONTRAST)
    middle = np.abs(a[:, _MIDDLE] - b[:, _MIDDLE]) <= BRIGHTNESS
    fits: NDArray[np.bool_] = (np.abs(y - slope[:, None] * x) <= SHADE).all(1) & middle
    return fits


def _plus_minus(prints: Fingerprints) -> NDArray[Any]:
    return np.where(np.unpackbits(prints.signs, axis=1), np.float32(1), np.float32(-1))
