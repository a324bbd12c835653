"""Judgement of a recipe's claims on its table: 95 % intervals on the same images, seeds one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from robust_transfer.checkpoint import CARD, read_card
from robust_transfer.comparison import LEVELS
from robust_transfer.data.weights import balanced as weights_of
from robust_transfer.errors import ConfigError
from robust_transfer.evaluation import load_evaluation
from robust_transfer.evaluation.classes import balanced, by_class
from robust_transfer.evaluation.result import Accuracy
from robust_transfer.statistics.frontier_gain import above_front, place
from robust_transfer.statistics.intervals import Difference, paired_bootstrap, wilson
from robust_transfer.statistics.resampling import Correctness
from robust_transfer.study.recipe import BALANCED_LEVELS, Cell, Claim, Measure, matches
from robust_transfer.study.work import Workshop

Verdict = Literal["holds", "fails", "open"]


@dataclass(frozen=True)
class Finding:
    """Verdict on a claim. ``by_seed``: the figure of each seed; ``n`` images; ``note``: caveats.

    ``open``: the interval lies on both sides of the claim, or touches 0 for a claim of any difference.
    """

    claim: Claim
    verdict: Verdict
    figure: Difference
    by_seed: tuple[float, ...]
    n: int
    note: str = ""

    def __str__(self) -> str:
        value, low, high, *seeds = (
            self._shown(figure) for figure in (self.figure.value, self.figure.low, self.figure.high, *self.by_seed)
        )
        unit = "points" if self._signed else "%"
        if self.claim.level == "cost":
            unit = "times" if self.claim.less is not None else "image passes"
        of = f", n = {self.n}" if self.n else ""
        told = f"{value} {unit} [{low}, {high}]{of}" + (f"; by seed {', '.join(seeds)}" if len(seeds) > 1 else "")
        return f"{told}; {self.note}" if self.note else told

    @property
    def _signed(self) -> bool:
        return self.claim.less is not None or self.claim.above is not None

    def _shown(self, figure: float) -> str:
        if self.claim.level == "cost":
            return f"{figure:.2g}" if self.claim.less is not None else f"{figure:,.0f}"
        return f"{100 * figure:+.1f}" if self._signed else f"{100 * figure:.1f}"


def diverged(workshop: Workshop, claim: Claim, cells: Sequence[Cell]) -> int:
    """Number of cells required by a claim that have no figures because training diverged."""
    sides = [which for which in (claim.of, claim.less, claim.above) if which is not None]
    needed = [cell for cell in cells if any(matches(cell, which) for which in sides)]
    return sum(workshop.failure(cell) is not None for cell in needed)


def judge(workshop: Workshop, claim: Claim, cells: Sequence[Cell]) -> Finding | None:
    """Judge ``claim``; None where required cells are not done, or have no figures."""
    of = _one_a_seed(claim.of, cells)
    beside = [cell for cell in cells if claim.above is not None and matches(cell, claim.above)]
    less = _one_a_seed(claim.less, cells) if claim.less is not None else {}
    for cell in (*of.values(), *less.values(), *beside):
        if not workshop.done(cell) or workshop.failure(cell) is not None:
            return None
    if claim.less is not None and of.keys() != less.keys():
        raise ConfigError(f"the claim {claim.says!r} sets {sorted(of)} against {sorted(less)}: pick the same seeds")
    if claim.level == "cost":
        return _of_cost(workshop, claim, of, less)
    return _above(workshop, claim, of, beside) if claim.above is not None else _of_images(workshop, claim, of, less)


def _one_a_seed(which: Mapping[str, Any], cells: Sequence[Cell]) -> dict[int, Cell]:
    """Cell of each seed; :class:`ConfigError` where there are several of one."""
    chosen = [cell for cell in cells if matches(cell, which)]
    if len({cell.seed for cell in chosen}) < len(chosen):
        raise ConfigError(f"a claim is about one cell a seed, and {dict(which)} picks several: name more columns")
    return {cell.seed: cell for cell in chosen}


def _of_images(workshop: Workshop, claim: Claim, of: Mapping[int, Cell], less: Mapping[int, Cell]) -> Finding:
    """Share, or a paired difference."""
    rows = {seed: _right(workshop, cell, claim.level) for seed, cell in of.items()}
    for seed, cell in less.items():
        rows[seed] = _less(rows[seed], _right(workshop, cell, claim.level))
    values = [row.to_numpy(float) for row in rows.values()]
    alike = len({tuple(row.index) for row in rows.values()}) == 1
    figure = paired_bootstrap(values, same_images=alike)
    if not less:  # resampling knows nothing of the other outcome where none was seen
        mean = _alone(workshop, claim, figure.value, len(values[0]), next(iter(of.values())))
        figure = Difference(figure.value, min(figure.low, mean.low), max(figure.high, mean.high))
    by_seed = tuple(float(np.mean(value)) for value in values)
    return Finding(claim, _verdict(claim, figure), figure, by_seed, len(values[0]))


def _alone(workshop: Workshop, claim: Claim, value: float, n: int, cell: Cell) -> Difference:
    """Interval of a share by itself: Wilson's, or that of a cell's balanced accuracy, moved to where ``value`` is."""
    share = wilson(round(value * n), n)
    if claim.level in BALANCED_LEVELS:
        found = load_evaluation(workshop.evaluation_folder(cell))
        share = balanced(by_class(found.outcomes, found.class_names))[f"{claim.level}_accuracy"]
        return Difference(value, max(0.0, value + share.low - share.value), min(1.0, value + share.high - share.value))
    return Difference(value, share.low, share.high)


def _above(workshop: Workshop, claim: Claim, of: Mapping[int, Cell], beside: Sequence[Cell]) -> Finding:
    """Points above a front: each seed's own where it has one, else the one that there is."""
    images = _right(workshop, next(iter(of.values())), "clean").index

    def rights(cell: Cell) -> Correctness:
        found = load_evaluation(workshop.evaluation_folder(cell))
        clean, robust = (found.right(level).astype(float) for level in LEVELS)
        if not images.equals(clean.index):
            raise ConfigError(f"the claim {claim.says!r} is about cells that were evaluated on different images")
        return Correctness(clean.to_numpy(), robust.to_numpy())

    own = [[cell for cell in beside if cell.seed == seed] for seed in of]
    points = [rights(cell) for cell in of.values()]
    fronts = [[rights(cell) for cell in cells] for cells in (own if all(own) else [beside])]
    figure, where = above_front(points, fronts), place(points, fronts)
    alone = [above_front([point], [fronts[i % len(fronts)]], resamples=1).value for i, point in enumerate(points)]
    note = {"on": "", "below": "less robust than all of the front", "above": "more robust than all of the front"}[where]
    verdict = "open" if where == "below" else _verdict(claim, figure)
    return Finding(claim, verdict, figure, tuple(alone), len(images), note)


def _of_cost(workshop: Workshop, claim: Claim, of: Mapping[int, Cell], less: Mapping[int, Cell]) -> Finding:
    """Image passes, or their ratio; the interval is the range over seeds."""
    costs = [_cost(workshop, cell) / (_cost(workshop, less[seed]) if less else 1) for seed, cell in of.items()]
    figure = Difference(float(np.mean(costs)), min(costs), max(costs))
    return Finding(claim, _verdict(claim, figure), figure, tuple(costs), 0, "in brackets the range")


def _cost(workshop: Workshop, cell: Cell) -> float:
    return read_card(workshop.result_folder(cell) / CARD).cost.passes


def _right(workshop: Workshop, cell: Cell, level: Measure) -> pd.Series[float]:
    """Correctness of each image, by its id; for a balanced level times its weight, so that each class counts the same."""
    found = load_evaluation(workshop.evaluation_folder(cell))
    plain: Accuracy = "clean" if BALANCED_LEVELS.get(level, level) == "clean" else "robust"
    right = found.right(plain).astype(float)
    if level not in BALANCED_LEVELS:
        return right
    labels = found.outcomes.set_index("index")["label"].sort_index()
    weights = weights_of(torch.tensor(labels.to_list()), int(labels.max()) + 1)
    return right.mul(pd.Series(weights.numpy(), index=right.index))


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


def _less(of: pd.Series[float], less: pd.Series[float]) -> pd.Series[float]:
    if not of.index.equals(less.index):
        raise ConfigError("a claim sets cells against each other that were evaluated on different images")
    return of - less
