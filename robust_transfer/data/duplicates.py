"""Copies of images: the same pixels, or the same look after re-encoding, resizing, other contrast or a mirror.

Exact copies are found by sorting. Of looks only those are compared that agree in a part which two that match have to agree
in: all pairs that match are found, none is left to chance, and the time grows by little more than the number of images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from robust_transfer.data.fingerprints import CELLS, SIGNS, Fingerprints, joined, mirrored

DISTANCE = 15  # so many of the 96 signs may differ
SHADE = 5  # and each mean by so much, of 255
# Or so few signs, where the means of luma are the other's after a change of brightness and contrast, but for SHADE.
CLOSE, CONTRAST, BRIGHTNESS = 8, (0.6, 1.6), 25
_CELLS, _MIDDLE = CELLS**2, 4
_PAIRS = 2**19  # how many are compared at a time
_SPREAD = 5  # means that are looked up by
_ONES = np.array([value.bit_count() for value in range(2**16)], np.uint8)


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
    """Copy in ``those`` of each of ``these``: an exact one if possible, else the most similar one."""
    partner, exact = np.full(len(these), -1, np.int64), np.zeros(len(these), bool)
    if len(these) and len(those):
        keys, wanted = those.exact, these.exact
        order = np.argsort(keys, kind="stable")
        place = np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)
        exact = keys[order][place] == wanted
        partner[exact] = order[place][exact]
        left = np.flatnonzero(~exact & these.signs.any(1))
        own = these.take(left)
        as_it_is, turned = np.split(_nearest(joined([own, mirrored(own)]), those), 2)
        partner[left] = np.where(as_it_is >= 0, as_it_is, turned)
    return Copies(partner, exact)


def find_lookalikes(these: Fingerprints) -> NDArray[np.int64]:
    """Index of the image among ``these`` that looks most like each and has other pixels, -1 where there is none."""
    as_it_is, turned = np.split(_nearest(joined([these, mirrored(these)]), these, other=True), 2)
    return np.where(as_it_is >= 0, as_it_is, turned)


def _nearest(these: Fingerprints, those: Fingerprints, *, other: bool = False) -> NDArray[np.int64]:
    """Index of the image in ``those`` that is nearest to each of ``these`` (the first such) and near enough, else -1.

    ``other``: only what has other pixels counts.
    """
    there = np.flatnonzero(those.signs.any(1))
    others = those.take(there)
    none, n = (DISTANCE + 1) * len(there), max(1, len(there))
    best = np.full(len(these), none)  # distance * n + index
    words = [np.ascontiguousarray(some.signs).view(np.uint16) for some in (these, others)]
    shades = [some.shades.astype(np.int16) for some in (these, others)]
    pixels = these.exact, others.exact
    for mine, theirs in _keys(these, others):
        for i, j in _same(mine, theirs):
            distances = _ONES[words[0][i] ^ words[1][j]].sum(1, dtype=np.int64)
            near = np.flatnonzero((distances <= DISTANCE) & (pixels[0][i] != pixels[1][j] if other else True))
            i, j, distances = i[near], j[near], distances[near]
            a, b = shades[0][i], shades[1][j]
            alike = (np.abs(a - b) <= SHADE).all(1) | ((distances <= CLOSE) & _other_contrast(a, b))
            np.minimum.at(best, i[alike], distances[alike] * n + j[alike])
    found = best < none
    nearest = np.full(len(these), -1)
    nearest[found] = there[best[found] % n]
    return nearest


def _keys(these: Fingerprints, those: Fingerprints) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Hash keys of each of ``these`` and ``those``; two matching images share at least one key."""
    # Means that differ by at most SHADE lie in one cell of this width, or in two that touch: some by which images differ most.
    width, most = 2 * SHADE + 1, 255 // (2 * SHADE + 1) + 3
    telling = np.argsort(-those.shades.std(0), kind="stable")[:_SPREAD] if len(those) else np.arange(_SPREAD)
    a, b = (some.shades[:, telling].astype(np.int64) for some in (these, those))
    places = most ** np.arange(_SPREAD)
    low, high, cells = (value // width + 1 for value in (a - SHADE, a + SHADE, b))
    for above in product((False, True), repeat=_SPREAD):
        chosen = np.where(above, high, low)
        again = (np.array(above) & (low == high)).any(1)  # looked up already
        yield np.where(again, -1, chosen @ places), cells @ places
    # Of four bytes of signs in each third, two are the same in one third: else 9 of 12 would differ, and more signs than CLOSE.
    x, y = (some.signs.astype(np.int64) for some in (these, those))
    for third in range(0, SIGNS, 4):
        for one, other in combinations(range(third, third + 4), 2):
            yield 256 * x[:, one] + x[:, other], 256 * y[:, one] + y[:, other]


def _same(mine: NDArray[np.int64], theirs: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Indices ``(i, j)`` of all pairs with ``mine[i] == theirs[j]``, some at a time."""
    order, rows = np.argsort(theirs, kind="stable"), np.argsort(mine, kind="stable")
    first, last = (np.searchsorted(theirs[order], mine[rows], side) for side in ("left", "right"))
    some = np.flatnonzero(last > first)
    rows, first, count = rows[some], first[some], (last - first)[some]
    ends, start = np.cumsum(count), 0
    while start < len(rows):
        before = ends[start] - count[start]
        stop = max(start + 1, int(np.searchsorted(ends, before + _PAIRS, "right")))
        now = count[start:stop]
        step = np.arange(ends[stop - 1] - before) - np.repeat(ends[start:stop] - now - before, now)
        yield np.repeat(rows[start:stop], now), order[np.repeat(first[start:stop], now) + step]
        start = stop


def _other_contrast(a: NDArray[np.int16], b: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Mask ``(n,)``: the luma of ``b`` is that of ``a`` after a change of brightness and contrast, whatever the colour."""
    x, y = (some[:, :_CELLS] - some[:, :_CELLS].mean(1, keepdims=True) for some in (a, b))
    slope = ((x * y).sum(1) / np.maximum((x * x).sum(1), 1e-9)).clip(*CONTRAST)
    middle = np.abs(a[:, _MIDDLE] - b[:, _MIDDLE]) <= BRIGHTNESS
    fits: NDArray[np.bool_] = (np.abs(y - slope[:, None] * x) <= SHADE).all(1) & middle
    return fits
