"""Fingerprints of images: a hash of the exact pixels, and one of the look, which re-encoding and resizing leave alone.

The exact one is SHA-256 over width, height and the decoded RGB bytes. The look is of the image squashed to 32 x 32 pixels:
the signs of the 96 lowest frequencies of its luma, the luma's means over 3 x 3 cells, and the mean colour. Together they
are 32 bytes an image. Nothing here depends on PyTorch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

EXACT, SIGNS, SHADES = 8, 12, 12  # bytes
BYTES = EXACT + SIGNS + SHADES
CELLS = 3
SIDE = 32
FREQUENCIES = 8 * SIGNS
FAINT = 1.0  # a coefficient below it may be rounding alone; the luma deviates by a 32nd of it
MIN_FREQUENCIES = 48  # so many frequencies must be there for a look to tell images apart


def _low_frequencies() -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]:
    """Orthonormal cosine basis ``(f, SIDE)``, and rows and columns of the lowest frequencies but the mean."""
    pairs = sorted(((u, v) for u in range(SIDE) for v in range(SIDE)), key=lambda p: (p[0] ** 2 + p[1] ** 2, p))
    rows, columns = np.array(pairs[1 : FREQUENCIES + 1]).T
    f, x = np.arange(max(rows.max(), columns.max()) + 1), np.arange(SIDE)
    basis = np.cos(np.pi * (2 * x[None] + 1) * f[:, None] / (2 * SIDE)) * np.sqrt(2 / SIDE)
    basis[0] /= np.sqrt(2)
    return basis, rows, columns


_BASIS, _ROWS, _COLUMNS = _low_frequencies()


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """Fingerprints of n images: uint8 ``(n, 32)``, 8 bytes exact, 12 of signs, 9 of cells and 3 of mean colour.

    Signs that are all 0 stand for an image with too little in it to be told by its look: it is known exactly only.
    """

    rows: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def exact(self) -> NDArray[np.uint64]:
        """Number for the exact pixels of each image, ``(n,)``."""
        return np.ascontiguousarray(self.rows[:, :EXACT]).view("<u8")[:, 0].astype(np.uint64)

    @property
    def signs(self) -> NDArray[np.uint8]:
        """Signs of the low frequencies, packed, ``(n, 12)``."""
        return self.rows[:, EXACT : EXACT + SIGNS]

    @property
    def shades(self) -> NDArray[np.uint8]:
        """Mean luma of the cells, row by row, and mean red, green and blue, ``(n, 12)``."""
        return self.rows[:, EXACT + SIGNS :]

    def take(self, indices: Any) -> Fingerprints:
        """Fingerprints at ``indices`` (or where a mask is true)."""
        return Fingerprints(self.rows[np.asarray(indices)])

    def as_set(self) -> Fingerprints:
        """Unique fingerprints, in an order independent of the images' positions."""
        return Fingerprints(np.unique(self.rows, axis=0) if len(self) else self.rows)


NONE = Fingerprints(np.zeros((0, BYTES), np.uint8))


def joined(parts: Sequence[Fingerprints]) -> Fingerprints:
    """Concatenation of fingerprints."""
    return Fingerprints(np.concatenate([NONE.rows, *(part.rows for part in parts)]))


def mirrored(prints: Fingerprints) -> Fingerprints:
    """Looks of the horizontally mirrored images; their exact parts are unchanged and meaningless."""
    rows = prints.rows.copy()
    cells = slice(EXACT + SIGNS, EXACT + SIGNS + CELLS**2)
    rows[:, cells] = rows[:, cells].reshape(-1, CELLS, CELLS)[:, :, ::-1].reshape(-1, CELLS**2)
    known = prints.signs.any(1)
    # of a frequency with an odd number of half waves from left to right a mirror changes the sign
    rows[known, EXACT : EXACT + SIGNS] ^= np.packbits(_COLUMNS % 2 == 1)
    return Fingerprints(rows)


def fingerprint(pixels: NDArray[np.uint8], picture: Image.Image | None = None) -> NDArray[np.uint8]:
    """Fingerprint ``(32,)`` of an RGB image, uint8 ``(height, width, 3)`` at its native size.

    ``picture``: the same one of PIL, where there is one, which saves a copy.
    """
    height, width, _ = pixels.shape
    pixels = np.ascontiguousarray(pixels)
    content = hashlib.sha256(f"{width}x{height}|".encode())
    content.update(pixels.data)
    luma = (picture or Image.fromarray(pixels)).convert("L")
    if luma.size != (SIDE, SIDE):
        luma = luma.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    spectrum = _BASIS @ np.asarray(luma, np.float64) @ _BASIS.T
    chosen = spectrum[_ROWS, _COLUMNS]
    telling = np.count_nonzero(np.abs(chosen) >= FAINT) >= MIN_FREQUENCIES
    row = np.zeros(BYTES, np.uint8)
    row[:EXACT] = np.frombuffer(content.digest()[:EXACT], np.uint8)
    if telling:
        row[EXACT : EXACT + SIGNS] = np.packbits(chosen >= FAINT)
    cells = luma.resize((CELLS, CELLS), Image.Resampling.BOX)
    # the mean of whole numbers, summed column by column: many times as fast as along the last axis but one; 32 bits are
    # faster than 64, and hold a column of 2^24 pixels, more than PIL decodes
    columns = pixels.reshape(height, -1).sum(0, dtype=np.uint32).reshape(width, 3)
    colour = np.rint(columns.sum(0, dtype=np.uint64) / (height * width))
    row[EXACT + SIGNS :] = np.concatenate([np.asarray(cells).ravel(), colour])
    return row
