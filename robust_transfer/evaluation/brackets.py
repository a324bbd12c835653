"""Brackets: the budget at which each example stands and the next larger one that breaks it, searched from a guess.

Budgets lie on a grid: 64 steps to the threat's own eps, 64 to its double, and so on. What brackets an example are two
neighbours on it, whatever the guess; a good guess only needs fewer attacks. (Where an attack fails at a budget and succeeds at
a smaller one, an example has several brackets, and one of them is found.)
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from robust_transfer.evaluation.curve import Budgets
from robust_transfer.evaluation.outcomes import CLEAN, SURVIVED

PARTS = 64  # of each doubling
SPREAD = 1 / 32  # of a guess: the first step away from it, which is doubled while the other side has not been seen


def brackets(
    budgets: Budgets, guesses: NDArray[np.float64], most: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Largest eps at which each example stood, below the smallest that was found to break it; both ``(n,)``.

    ``guesses`` of the latter, row by row those of the split; where one is infinite, the threat's own eps is taken. 0 and 0 for
    what is wrong when clean; ``most`` and infinity for what stands there.
    """
    grid = _grid(budgets.adversary.threat.eps, most)
    search = _Search(grid, np.where(np.isfinite(guesses), guesses, budgets.adversary.threat.eps))
    while len(rows := search.open()):
        for place in np.unique(search.next[rows]):
            some = rows[search.next[rows] == place]
            search.note(some, budgets.broken_by(some, float(grid[place])))
    return grid[search.low], np.append(grid, np.inf)[search.high]


def _grid(own: float, most: float) -> NDArray[np.float64]:
    """Budgets from 0: up to ``own``, then from each one to its double, until ``most``."""
    ends = [0.0, own]
    while ends[-1] < most:
        ends.append(min(2 * ends[-1], most))
    parts = [low + (high - low) * np.arange(PARTS) / PARTS for low, high in pairwise(ends)]
    return np.append(np.concatenate(parts), ends[-1])


class _Search:
    """State of the search, in places on the grid: ``low`` stood (or is 0), ``high`` broke (or is behind the end)."""

    def __init__(self, grid: NDArray[np.float64], guesses: NDArray[np.float64]) -> None:
        top = len(grid) - 1
        self.top, self.low, self.high = top, np.zeros(len(guesses), int), np.full(len(guesses), top + 1)
        self.next = np.searchsorted(grid, guesses).clip(1, top)
        self.stride = (self.next - np.searchsorted(grid, (1 - SPREAD) * grid[self.next])).clip(1)

    def open(self) -> NDArray[np.int_]:
        """Rows whose two places are no neighbours yet."""
        return np.flatnonzero(self.high - self.low > 1)

    def note(self, rows: NDArray[np.int_], fates: NDArray[np.str_]) -> None:
        """Take up what became of ``rows`` at their next places, and decide on the places after these."""
        place, stood = self.next[rows], fates == SURVIVED
        self.low[rows[stood]], self.high[rows[~stood]] = place[stood], place[~stood]
        wrong = rows[fates == CLEAN]
        self.low[wrong] = self.high[wrong] = 0
        low, high, stride = self.low[rows], self.high[rows], self.stride[rows]
        self.stride[rows] = 2 * stride
        upwards, downwards = high > self.top, low == 0
        between = np.where(upwards, np.minimum(low + stride, self.top), (low + high) // 2)
        self.next[rows] = np.where(downwards & ~upwards, np.maximum(high - stride, (high + 1) // 2), between)
