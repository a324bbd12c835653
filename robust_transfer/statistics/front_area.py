"""Area under a front of clean against robust accuracy, over a range of robust accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robust_transfer.errors import ConfigError, DataError
from robust_transfer.statistics.frontier_gain import front_at, front_of
from robust_transfer.statistics.intervals import Difference
from robust_transfer.statistics.resampling import RESAMPLES, Correctness, Floats, difference, resampled


@dataclass(frozen=True)
class Area:
    """Mean clean accuracy of a front over a range of robust accuracy; ``more``: than that of the first front.

    ``reach``: the share of the range that has a point at least so robust. The rest counts as 0.
    """

    figure: Difference
    more: Difference
    reach: float


def front_areas(
    fronts: Sequence[Sequence[Sequence[Correctness]]],
    over: tuple[float, float] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Area]:
    """Area of each of ``fronts`` (of each seed its points), all on the same images and resamples of them, and seeds.

    A front is piecewise linear between its points (a coin that decides which of two networks answers has that at least) and
    level to the left of the least robust one. Nothing is more robust than its most robust point. ``over``: lowest and
    highest robust accuracy; None: those of the first front, in every seed and resample its own. Raises :class:`DataError`
    where numbers of images, or of seeds, differ.
    """
    if over is not None and not 0 <= over[0] < over[1] <= 1:
        raise ConfigError(f"a range of robust accuracy goes up between 0 and 1, not from {over[0]:g} to {over[1]:g}")
    if not fronts or len({len(front) for front in fronts}) != 1 or not all(map(len, fronts[0])):
        raise DataError("fronts need as many seeds each, and at least one point of every seed")
    cells, parts = list[Correctness](), list[list[slice]]()
    for front in fronts:
        parts.append([])
        for points in front:
            parts[-1].append(slice(len(cells), len(cells) + len(points)))
            cells += points
    drawn = resampled(cells, len(fronts[0]), resamples=resamples, seed=seed)
    ends = [_range(drawn.robust[:, part], over) for part in parts[0]]
    found, reaches = list[Floats](), list[float]()
    for own in parts:
        each, reached = list[Floats](), list[float]()
        for part, (low, high) in zip(own, ends, strict=True):
            x = drawn.robust[:, part]
            each.append(_mean_height(x, drawn.clean[:, part], low, high))
            width, most = high[0] - low[0], x[0].max()
            reached.append(float(np.clip((most - low[0]) / width, 0, 1) if width > 0 else most >= low[0]))
        found.append(drawn.over_seeds(np.stack(each, 1)))
        reaches.append(float(np.mean(reached)))
    return [
        Area(difference(values), difference(values - found[0]), reach)
        for values, reach in zip(found, reaches, strict=True)
    ]


def _range(x: Floats, over: tuple[float, float] | None) -> tuple[Floats, Floats]:
    """Ends of the range of robust accuracy, ``(resamples,)`` each."""
    return (x.min(1), x.max(1)) if over is None else (np.full(len(x), over[0]), np.full(len(x), over[1]))


def _mean_height(x: Floats, y: Floats, low: Floats, high: Floats) -> Floats:
    """Mean of a front's clean accuracy over ``[low, high]``, ``(resamples,)``; of a range without width its height there."""
    x, y = front_of(x, y)
    total = y[:, 0] * (np.clip(x[:, 0], low, high) - low)
    for left, right in zip(range(x.shape[1] - 1), range(1, x.shape[1]), strict=True):
        width = x[:, right] - x[:, left]
        slope = np.where(width > 0, (y[:, right] - y[:, left]) / np.where(width > 0, width, 1.0), 0.0)
        a, b = (np.clip(x[:, side], low, high) for side in (left, right))
        middle = y[:, left] + slope * ((a + b) / 2 - x[:, left])
        total = total + (b - a) * middle
    there = np.where(x[:, -1] >= low, front_at(low[:, None], x, y)[:, 0], 0.0)
    return np.where(high > low, total / np.where(high > low, high - low, 1.0), there)
