"""Gain of points over a whole curve of clean against robust accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from robust_transfer.errors import DataError
from robust_transfer.statistics.intervals import Difference
from robust_transfer.statistics.resampling import RESAMPLES, Correctness, Floats, difference, resampled

Place = Literal["on", "below", "above"]


@dataclass(frozen=True)
class Gain:
    """Clean accuracy of a point above a curve at equal robust accuracy.

    ``by_seed``: each seed's own; ``places``: where on its curve's range of robust accuracy each seed's point lies. There
    is a gain where all are ``on`` it; elsewhere ``figure`` holds the curve's nearest end against the point.
    """

    figure: Difference
    by_seed: tuple[float, ...]
    places: tuple[Place, ...]

    @property
    def known(self) -> bool:
        """True if there is a probe as robust as the point, for every seed."""
        return set(self.places) == {"on"}


def gains(
    points: Sequence[Sequence[Correctness]],
    curves: Sequence[Sequence[Correctness]],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Gain]:
    """Gain of each of ``points`` (one cell a seed) over ``curves`` (one a seed, or one for all).

    A curve is piecewise linear between the points of its front: one that another dominates is left out.
    Beyond its ends it is constant; :attr:`Gain.places` says who lies there. The interval is the 95 % percentile
    one of a nested paired bootstrap: seeds, then images, every curve drawn anew on each resample of images. All are
    on the same images. Raises :class:`DataError` where their numbers of images, or of seeds, differ.
    """
    if not points or len({len(point) for point in points}) != 1:
        raise DataError("points of different numbers of seeds cannot be set against one curve")
    seeds = len(points[0])
    curves = _one_each(points[0], curves)
    drawn = resampled([cell for some in (*curves, *points) for cell in some], seeds, resamples=resamples, seed=seed)
    ends = np.cumsum([len(curve) for curve in curves])
    first, above, places = int(ends[-1]), list[Floats](), list[list[Place]]()
    for number, (end, curve) in enumerate(zip(ends, curves, strict=True)):
        part, own = slice(end - len(curve), end), first + number + seeds * np.arange(len(points))
        x, y = drawn.robust[:, own], drawn.clean[:, own]
        above.append(y - front_at(x, drawn.robust[:, part], drawn.clean[:, part]))
        lowest, highest = drawn.robust[0, part].min(), drawn.robust[0, part].max()
        places.append(["below" if at < lowest else "above" if at > highest else "on" for at in x[0]])
    by_seed = np.stack(above, 1)  # resamples, seeds, points
    means = drawn.over_seeds(by_seed)
    return [
        Gain(difference(means[:, i]), tuple(map(float, by_seed[0, :, i])), tuple(place[i] for place in places))
        for i in range(len(points))
    ]


def above_front(
    points: Sequence[Correctness], curves: Sequence[Sequence[Correctness]], *, resamples: int = RESAMPLES, seed: int = 0
) -> Difference:
    """Clean accuracy of one point (a cell a seed) above ``curves`` at equal robust accuracy: see :func:`gains`.

    :func:`place` says where on the curves it is.
    """
    return gains([points], curves, resamples=resamples, seed=seed)[0].figure


def place(points: Sequence[Correctness], curves: Sequence[Sequence[Correctness]]) -> Place:
    """``on`` the range of robust accuracies of the curves, or ``below`` it, or ``above`` it: of means over seeds."""
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


def front_of(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Front of points ``(resamples, points)``, by robust accuracy ``x``, clean accuracy ``y`` falling.

    A point that another beats, or equals in one accuracy and beats in the other, is left out: it is moved onto that one.
    """
    order = np.lexsort((y, x), axis=1)
    x, y = np.take_along_axis(x, order, 1), np.take_along_axis(y, order, 1)
    for left in range(x.shape[1] - 2, -1, -1):
        beaten = y[:, left] <= y[:, left + 1]
        for values in (x, y):
            values[beaten, left] = values[beaten, left + 1]
    return x, y


def front_at(at: Floats, x: Floats, y: Floats) -> Floats:
    """Clean accuracy of a front at robust accuracies ``at``, ``(resamples, places)``; constant beyond its ends."""
    x, y = front_of(x, y)
    before = (x[:, None, :] <= at[:, :, None]).sum(2)  # how many of its points are no more robust
    left, right = (np.clip(index, 0, x.shape[1] - 1) for index in (before - 1, before))
    (x0, y0), (x1, y1) = ([np.take_along_axis(values, index, 1) for values in (x, y)] for index in (left, right))
    share = np.where(x1 > x0, (at - x0) / np.where(x1 > x0, x1 - x0, 1.0), 0.0)
    return np.asarray(y0 + np.clip(share, 0.0, 1.0) * (y1 - y0))
