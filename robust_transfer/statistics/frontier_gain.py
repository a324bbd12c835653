"""Gain of a point over a whole curve of clean against robust accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from robust_transfer.errors import DataError
from robust_transfer.statistics.intervals import Difference

RESAMPLES = 2000

Place = Literal["on", "below", "above"]


@dataclass(frozen=True)
class Correctness:
    """Correctness of each image, ``(n,)``: when clean, and under attack (``robust``)."""

    clean: NDArray[Any]
    robust: NDArray[Any]


def above_front(
    points: Sequence[Correctness], curves: Sequence[Sequence[Correctness]], *, resamples: int = RESAMPLES, seed: int = 0
) -> Difference:
    """Clean accuracy of ``points`` (one a seed) above ``curves`` (one a seed, or one for all) at equal robust accuracy.

    A curve is piecewise linear, and its best front: a dominated point is replaced by the dominating one's accuracy.
    Beyond its ends it is constant; :func:`place` says where on it the points are. The interval is the 95 % percentile
    one of a nested paired bootstrap: seeds, then images, every curve drawn anew on each resample of images. All are
    on the same images. Raises :class:`DataError` where their numbers of images differ.
    """
    curves = _one_each(points, curves)
    columns = [right for curve in curves for right in curve] + list(points)
    if len({len(array) for right in columns for array in (right.clean, right.robust)}) != 1:
        raise DataError("points and curves are of different numbers of images")
    clean, robust = (
        np.stack([getattr(right, name) for right in columns], 1).astype(float) for name in Correctness.__match_args__
    )
    ends = np.cumsum([len(curve) for curve in curves])
    parts = [slice(end - len(curve), end) for end, curve in zip(ends, curves, strict=True)]
    n, first = len(clean), int(ends[-1])

    def gain(weights: NDArray[np.float64], seeds: NDArray[np.int_]) -> float:
        x, y = weights @ robust, weights @ clean
        return float(np.mean([y[first + s] - _front(x[first + s], x[parts[s]], y[parts[s]]) for s in seeds]))

    rng, seeds, even = np.random.default_rng(seed), np.arange(len(points)), np.full(n, 1 / n)
    drawn = [gain(rng.multinomial(n, even) / n, rng.choice(seeds, len(seeds))) for _ in range(resamples)]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Difference(gain(even, seeds), float(low), float(high))


def place(points: Sequence[Correctness], curves: Sequence[Sequence[Correctness]]) -> Place:
    """``on`` the range of robust accuracies of the curves, or ``below`` it, or ``above`` it."""
    ends = [[np.mean(right.robust) for right in curve] for curve in _one_each(points, curves)]
    at = np.mean([np.mean(right.robust) for right in points])
    lowest, highest = (np.mean([end(curve) for curve in ends]) for end in (min, max))
    return "below" if at < lowest else "above" if at > highest else "on"


def _one_each(points: Sequence[Correctness], curves: Sequence[Sequence[Correctness]]) -> list[Sequence[Correctness]]:
    if not points or not curves or not all(curves):
        raise DataError("there is nothing to compare: give at least one point and one curve of at least one point")
    if len(curves) not in (1, len(points)):
        raise DataError(f"{len(curves)} curves for {len(points)} points: give one, or one each")
    return list(curves) if len(curves) == len(points) else [curves[0]] * len(points)


def _front(at: float, x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Clean accuracy of a curve's front at the robust accuracy ``at``."""
    order = np.argsort(x)
    front = np.maximum.accumulate(y[order][::-1])[::-1]  # a point that another beats in both is no loss
    return float(np.interp(at, x[order], front))
