"""Shares of several cells under one bootstrap: the same resample of images, and of seeds, for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robust_transfer.errors import DataError
from robust_transfer.statistics.intervals import Difference

RESAMPLES = 2000
AT_ONCE = 200  # resamples, whose counts of images are held in memory

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Correctness:
    """Correctness of each image, ``(n,)``: when clean, and under attack (``robust``)."""

    clean: NDArray[Any]
    robust: NDArray[Any]


@dataclass(frozen=True)
class Resampled:
    """Clean and robust accuracy of each cell, ``(1 + resamples, cells)``; row 0 is the sample itself.

    ``seeds``: how often each seed is drawn, ``(1 + resamples, seeds)``; in row 0 each once.
    """

    clean: Floats
    robust: Floats
    seeds: NDArray[np.int_]

    def over_seeds(self, values: Floats) -> Floats:
        """Mean over the drawn seeds of ``values``, ``(1 + resamples, seeds, ...)``."""
        drawn = self.seeds.reshape(*self.seeds.shape, *[1] * (values.ndim - 2))
        return np.asarray((drawn * values).sum(1) / self.seeds.shape[1])


def resampled(cells: Sequence[Correctness], seeds: int, *, resamples: int = RESAMPLES, seed: int = 0) -> Resampled:
    """Draw seeds, then images, both with replacement; all cells are judged on the same draws (a nested paired bootstrap).

    Raises :class:`DataError` where the cells' numbers of images differ.
    """
    if len({len(array) for cell in cells for array in (cell.clean, cell.robust)}) != 1:
        raise DataError("points and curves are of different numbers of images")
    right = [np.stack([getattr(cell, name) for cell in cells], 1).astype(float) for name in Correctness.__match_args__]
    n, rng = len(right[0]), np.random.default_rng(seed)
    each, even = np.arange(seeds), np.full(n, 1 / n)
    shares, drawn = [[values.sum(0, keepdims=True) / n] for values in right], [np.ones((1, seeds), int)]
    for begin in range(0, resamples, AT_ONCE):
        counts = np.empty((min(AT_ONCE, resamples - begin), n))
        for row in counts:
            row[:] = rng.multinomial(n, even)
            drawn.append(np.bincount(rng.choice(each, seeds), minlength=seeds)[None])
        for found, values in zip(shares, right, strict=True):
            found.append(counts @ values / n)
    clean, robust = (np.concatenate(found) for found in shares)
    return Resampled(clean, robust, np.concatenate(drawn))


def difference(values: Floats) -> Difference:
    """Figure of the sample (row 0), with the 95 % percentile interval of the resamples ``(1 + resamples,)``."""
    low, high = np.quantile(values[1:], (0.025, 0.975)) if len(values) > 1 else (values[0], values[0])
    return Difference(float(values[0]), float(low), float(high))
