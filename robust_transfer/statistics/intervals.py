"""Uncertainty of what is reported: Wilson's interval for a proportion, MOVER for a mean of proportions, a paired bootstrap
for a difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robust_transfer.errors import ConfigError, DataError

Z = 1.959963984540054  # the 97.5 % quantile of the standard normal distribution
RESAMPLES = 10_000


@dataclass(frozen=True)
class Proportion:
    """Share of ``n`` examples with its 95 % interval ``[low, high]`` (Wilson's by default); all in [0, 1]."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


@dataclass(frozen=True)
class Difference:
    """Difference of two shares, in [-1, 1], with its 95 % interval ``[low, high]``."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:+.1f} points [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"


def wilson(successes: int, n: int) -> Proportion:
    """``successes / n`` with the score interval of Wilson (1927), which unlike the usual one is sound near 0 and 1.

    Its ends are the ``p`` that solve ``|successes / n - p| = z sqrt(p (1 - p) / n)``. Raises :class:`DataError` for
    no examples.
    """
    if n < 1:
        raise DataError("a share of no examples is not defined: give at least one image")
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is not a share")
    return _scored(successes / n, n)


def _scored(value: float, n: int) -> Proportion:
    """Share with Wilson's interval; of a mean over seeds it need not be a whole number of examples."""
    scale = 1 + Z * Z / n
    centre = (value + Z * Z / (2 * n)) / scale
    half = Z * ((value * (1 - value) + Z * Z / (4 * n)) / n) ** 0.5 / scale
    # the ends at 0 and n are exact; rounding would leave 1e-17 there
    low = 0.0 if value == 0 else centre - half
    high = 1.0 if value == 1 else centre + half
    return Proportion(value, low, high, n)


def mean_of(shares: Sequence[Proportion]) -> Proportion:
    """Mean of independent shares, such as the recalls of classes, each counting the same; ``n`` is that of all together.

    Its 95 % interval is recovered from those of the shares (MOVER, Zou & Donner 2008): with ``K`` of them the lower end is
    ``mean - sqrt(sum (share - low)^2) / K``. Of Wilson's intervals it is sound where a class has few images or all of them
    right, which a variance estimated from the shares is not. Raises :class:`DataError` for none.
    """
    if not shares:
        raise DataError("a mean of no shares is not defined: give at least one")
    value = sum(share.value for share in shares) / len(shares)
    below = math.sqrt(sum((share.value - share.low) ** 2 for share in shares)) / len(shares)
    above = math.sqrt(sum((share.high - share.value) ** 2 for share in shares)) / len(shares)
    return Proportion(value, max(0.0, value - below), min(1.0, value + above), sum(share.n for share in shares))


def of_same_images(shares: Sequence[Proportion]) -> Proportion:
    """Mean of shares of the same ``n`` images, such as under several corruptions, with a 95 % interval over the images.

    It is Wilson's of the mean, as if an image were right in all of them or in none: whatever the images have in common,
    the variance is at most that. It is never too short, and too long where the shares tell images apart in different ways.
    Raises :class:`DataError` for none, ``ValueError`` for shares of different numbers of images.
    """
    if not shares:
        raise DataError("a mean of no shares is not defined: give at least one")
    if len({share.n for share in shares}) > 1:
        raise ValueError("the shares are of different numbers of images, so they are not of the same")
    return _scored(sum(share.value for share in shares) / len(shares), shares[0].n)


def over_seeds(shares: Sequence[Proportion]) -> Proportion:
    """Mean of the shares that several seeds have of the same ``n`` images, with a 95 % interval over images and seeds.

    Two intervals are added in squares: Wilson's of the mean, as if all seeds had answered alike (they saw the same images),
    and Student's t over the seeds. The second is wide for two or three seeds, as it should be; of one it is not known, and
    left out. Seeds that saw different numbers of images count as the fewest. Raises :class:`DataError` for none.
    """
    from scipy.special import stdtrit  # the quantile of Student's t

    if not shares:
        raise DataError("a mean over no seeds is not defined: give at least one")
    values = np.array([share.value for share in shares])
    mean = _scored(float(values.mean()), min(share.n for share in shares))
    seeds = len(shares)
    half = float(stdtrit(seeds - 1, 0.975) * values.std(ddof=1) / math.sqrt(seeds)) if seeds > 1 else 0.0
    low, high = (math.hypot(mean.value - mean.low, half), math.hypot(mean.high - mean.value, half))
    return Proportion(mean.value, max(0.0, mean.value - low), min(1.0, mean.value + high), mean.n)


def paired_bootstrap(
    differences: Sequence[ArrayLike], *, same_images: bool = True, resamples: int = RESAMPLES, seed: int = 0
) -> Difference:
    """Mean of per-image differences with its 95 % percentile interval (Efron & Tibshirani 1993, section 13.3).

    ``differences`` holds one array ``(n_s,)`` a seed: what B scores on an image less what A scores on the same image.
    Each resample draws seeds with replacement, then images. Where all seeds have the same images in the same order
    (``same_images``) one draw of images serves all drawn seeds, since an image that is hard is hard for every seed
    (Owen 2007, "The pigeonhole bootstrap"); else each drawn seed gets its own. With fewer than about five seeds the
    interval is too short for what another seed might give: the seeds are shown one by one as well.
    """
    if seed < 0:
        raise ConfigError(f"seed must be at least 0, not {seed}")
    rows = [np.asarray(d, dtype=np.float64) for d in differences]
    if not rows or any(row.ndim != 1 or not len(row) for row in rows):
        raise DataError("there is nothing to compare: each seed needs at least one image")
    if same_images and len({len(row) for row in rows}) > 1:
        raise ValueError("the seeds have different numbers of images, so they are not the same images")
    value = float(np.mean([row.mean() for row in rows]))
    rng = np.random.default_rng(seed)
    # how often each seed is drawn, (resamples, seeds)
    drawn = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=resamples)
    totals = _shared_images(np.stack(rows), drawn, rng) if same_images else _own_images(rows, drawn, rng)
    low, high = np.quantile(totals / len(rows), [0.025, 0.975])
    return Difference(value, float(low), float(high))


def _shared_images(rows: NDArray[np.float64], drawn: NDArray[Any], rng: np.random.Generator) -> NDArray[np.float64]:
    """Sums over the drawn seeds of means over one draw of images, ``(resamples,)``.

    Images on which all seeds have the same differences are alike, so it is their patterns that are drawn: few.
    """
    # Drawing n images with replacement and counting each pattern is one multinomial draw: the same distribution as drawing
    # the images one by one, at the cost of the few patterns in place of n x resamples random numbers.
    patterns, counts = np.unique(rows, axis=1, return_counts=True)
    n = rows.shape[1]
    totals = np.empty(len(drawn))
    for part in np.array_split(np.arange(len(drawn)), 1 + len(drawn) * len(counts) // 10_000_000):
        images = rng.multinomial(n, counts / n, size=len(part))
        totals[part] = ((drawn[part] @ patterns) * images).sum(axis=1) / n
    return totals


def _own_images(rows: list[NDArray[np.float64]], drawn: NDArray[Any], rng: np.random.Generator) -> NDArray[np.float64]:
    """Sums over the drawn seeds of means over draws of each seed's own images, ``(resamples,)``."""
    totals = np.zeros(len(drawn))
    for row, times in zip(rows, drawn.T, strict=True):
        values, counts = np.unique(row, return_counts=True)
        totals += rng.multinomial(times * len(row), counts / len(row)) @ values / len(row)
    return totals
