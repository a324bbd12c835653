"""Copies within a split and between two, and images with two labels: found by fingerprints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robust_transfer.data.duplicates import find_copies, find_lookalikes
from robust_transfer.data.survey.look import Looks

SHOWN = 3  # examples of each kind
Pairs = list[tuple[int, int]]  # of rows


@dataclass(frozen=True)
class CopyReport:
    """Number of images of one side with a copy on the other: the same pixels (``exact``), or the same look (``near``).

    ``conflicts``: how many of the pairs found have different labels. Within one split ``exact`` counts the images beyond the
    first of each content, and ``near`` those that look like another one. The examples name images.
    """

    exact: int
    near: int
    conflicts: int
    examples: list[str]
    conflict_examples: list[str]

    @property
    def found(self) -> bool:
        """True if there are any."""
        return bool(self.exact or self.near)


def within(looks: Looks, where: Callable[[int], str]) -> CopyReport:
    """Copies among the images of one split; ``where`` names the image in a row."""
    rows = looks.whole
    prints = looks.prints.take(rows)
    _, first, each = np.unique(prints.exact, return_index=True, return_inverse=True)
    original = first[each]
    again = np.flatnonzero(original != np.arange(len(rows)))
    exact = [(int(rows[i]), int(rows[original[i]])) for i in again]
    partner = find_lookalikes(prints)
    near = [(int(rows[i]), int(rows[partner[i]])) for i in np.flatnonzero(partner >= 0)]
    return _report(exact, near, looks.labels, looks.labels, where, where, ordered=True)


def between(
    one: Looks, other: Looks, labels: NDArray[np.int64], where: Callable[[int], str], there: Callable[[int], str]
) -> CopyReport:
    """Images of ``one`` that have a copy in ``other``, whose ``labels`` are given in the terms of the first."""
    rows, others = one.whole, other.whole
    copies = find_copies(one.prints.take(rows), other.prints.take(others))
    pairs = [
        (int(rows[i]), int(others[copies.partner[i]]), bool(copies.exact[i])) for i in np.flatnonzero(copies.found)
    ]
    exact, near = ([(i, j) for i, j, same in pairs if same is kind] for kind in (True, False))
    return _report(exact, near, one.labels, labels, where, there)


def _report(
    exact: Pairs,
    near: Pairs,
    labels: NDArray[np.int64],
    others: NDArray[np.int64],
    where: Callable[[int], str],
    there: Callable[[int], str],
    ordered: bool = False,
) -> CopyReport:
    every = [*exact, *near]
    # within one split a pair is found from either of its images
    pairs = list(dict.fromkeys((max(pair), min(pair)) if ordered else pair for pair in every))
    against = [(i, j) for i, j in pairs if labels[i] != others[j]]

    def told(some: Pairs) -> list[str]:
        return [f"{where(i)} = {there(j)}" for i, j in some[:SHOWN]]

    return CopyReport(len(exact), len(near), len(against), told(pairs), told(against))
