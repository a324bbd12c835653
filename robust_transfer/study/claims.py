"""Whether a recipe's claims hold in its table: shares and paired differences with 95 % intervals, seeds one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from robust_transfer.errors import ConfigError
from robust_transfer.evaluation import load_evaluation
from robust_transfer.intervals import Difference, paired_bootstrap, wilson
from robust_transfer.study.recipe import Cell, Claim, Level, matches
from robust_transfer.study.work import Workshop

Verdict = Literal["holds", "fails", "open"]


@dataclass(frozen=True)
class Finding:
    """What a claim came to. ``by_seed``: the figure of each seed; ``open``: the interval lies on both sides, or touches 0
    where it is whether there is a difference at all.
    """

    claim: Claim
    verdict: Verdict
    figure: Difference
    by_seed: tuple[float, ...]
    n: int

    def __str__(self) -> str:
        sign = "+" if self.claim.less is not None else ""
        shown = [f"{100 * value:{sign}.1f}" for value in (self.figure.value, self.figure.low, self.figure.high)]
        unit = "points" if self.claim.less is not None else "%"
        seeds = f"; by seed {', '.join(f'{100 * d:{sign}.1f}' for d in self.by_seed)}" if len(self.by_seed) > 1 else ""
        return f"{shown[0]} {unit} [{shown[1]}, {shown[2]}], n = {self.n}{seeds}"


def diverged(workshop: Workshop, claim: Claim, cells: Sequence[Cell]) -> int:
    """How many of the cells that a claim needs have no figures, because training diverged."""
    needed = [
        cell for cell in cells if any(matches(cell, which) for which in (claim.of, claim.less) if which is not None)
    ]
    return sum(workshop.failure(cell) is not None for cell in needed)


def judge(workshop: Workshop, claim: Claim, cells: Sequence[Cell]) -> Finding | None:
    """What ``claim`` comes to; None where cells that it needs are not done, or have no figures."""
    of = _right(workshop, claim.of, claim.level, cells)
    less = _right(workshop, claim.less, claim.level, cells) if claim.less is not None else None
    if of is None or (claim.less is not None and less is None):
        return None
    rows = of
    if less is not None:
        if of.keys() != less.keys():
            raise ConfigError(f"the claim {claim.says!r} sets {sorted(of)} against {sorted(less)}: pick the same seeds")
        rows = {seed: _less(of[seed], less[seed]) for seed in of}
    values = [row.to_numpy(float) for row in rows.values()]
    alike = len({tuple(row.index) for row in rows.values()}) == 1
    figure = paired_bootstrap(values, same_images=alike)
    if less is None:  # resampling knows nothing of the other outcome where none was seen
        mean = wilson(round(figure.value * len(values[0])), len(values[0]))
        figure = Difference(figure.value, min(figure.low, mean.low), max(figure.high, mean.high))
    by_seed = tuple(float(np.mean(value)) for value in values)
    return Finding(claim, _verdict(claim, figure), figure, by_seed, len(values[0]))


def _verdict(claim: Claim, figure: Difference) -> Verdict:
    low = claim.at_least if claim.at_least is not None else -np.inf
    high = claim.at_most if claim.at_most is not None else np.inf
    if figure.low == figure.high in (low, high):
        return "open"  # not one image tells the two apart
    if 0 in (low, high) and claim.less is not None and 0 in (figure.low, figure.high):
        return "open"
    if figure.low >= low and figure.high <= high:
        return "holds"
    return "fails" if figure.high < low or figure.low > high else "open"


def _right(
    workshop: Workshop, which: Mapping[str, Any] | None, level: Level, cells: Sequence[Cell]
) -> dict[int, pd.Series[float]] | None:
    """For each seed, whether each image (by its id) is right; None where that is not known of all of them."""
    chosen = [cell for cell in cells if matches(cell, which or {})]
    if len({cell.seed for cell in chosen}) < len(chosen):
        raise ConfigError(f"a claim is about one cell a seed, and {dict(which or {})} picks several: name more columns")
    found = {}
    for cell in chosen:
        if not workshop.done(cell) or workshop.failure(cell) is not None:
            return None
        found[cell.seed] = load_evaluation(workshop.evaluation_folder(cell)).right(level).astype(float)
    return found


def _less(of: pd.Series[float], less: pd.Series[float]) -> pd.Series[float]:
    if not of.index.equals(less.index):
        raise ConfigError("a claim sets cells against each other that were evaluated on different images")
    return of - less
