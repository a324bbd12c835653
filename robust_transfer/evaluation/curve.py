"""Robust accuracy against the budget: a curve over eps, and the smallest eps that breaks each example.

A break at one budget is a break at every larger one, so both only ever attack what smaller budgets have left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from robust_transfer.data import Split
from robust_transfer.errors import ConfigError
from robust_transfer.evaluation.adversary import Adversary
from robust_transfer.evaluation.effort import effort
from robust_transfer.evaluation.loop import attack_split
from robust_transfer.evaluation.outcomes import CLEAN, SURVIVED
from robust_transfer.progress import stage
from robust_transfer.run import Run
from robust_transfer.statistics.intervals import Proportion, wilson
from robust_transfer.threat import parse_eps


@dataclass(frozen=True)
class CurvePoint:
    """Robust accuracy at one budget."""

    threat: str
    robust_accuracy: Proportion


@dataclass
class Budgets:
    """Adversary and sample for measurements at other budgets; ``passes`` is their cost so far."""

    adversary: Adversary
    model: nn.Module
    split: Split
    run: Run
    passes: int = 0

    def broken_by(self, rows: NDArray[np.int_], eps: float) -> NDArray[np.str_]:
        """Name of the attack that breaks each example of ``rows`` within ``eps``, as in the outcomes."""
        some, run = self.split.subset(torch.from_numpy(rows)), replace(self.run, out=None, resume=False, quiet=True)
        with stage(f"within {eps:.3g}", len(rows), self.run.quiet, each=effort(self.adversary.attacks)) as bar:
            bar.begin(len(rows))
            found = attack_split(self.adversary.at(eps), self.model, some, run)
            bar.advance(len(rows))
        self.passes += found.passes
        return found.table["broken_by"].to_numpy(str)

    def curve(self, budgets: Sequence[str | float], outcomes: pd.DataFrame) -> list[CurvePoint]:
        """Robust accuracy at each budget, in ascending order; a budget of 0 is the clean accuracy.

        ``outcomes`` are those at the threat's own eps, row by row those of the split: survivors there survive smaller
        budgets, broken examples are broken at larger ones.
        """
        sizes = sorted({float(parse_eps(budget)) for budget in budgets})
        if not sizes:
            raise ConfigError("a curve needs at least one budget, such as 2/255,4/255,8/255")
        fate, levels = outcomes["broken_by"].to_numpy(str), []
        beneath, above = np.flatnonzero((fate != SURVIVED) & (fate != CLEAN)), np.flatnonzero(fate == SURVIVED)
        own = len(above)
        for eps in sizes:
            if math.isclose(eps, self.adversary.threat.eps):
                standing = own
            elif eps < self.adversary.threat.eps:
                beneath = self._left(beneath, eps)
                standing = own + len(beneath)
            else:
                above = self._left(above, eps)
                standing = len(above)
            levels.append(CurvePoint(str(replace(self.adversary.threat, eps=eps)), wilson(standing, len(self.split))))
        return levels

    def _left(self, rows: NDArray[np.int_], eps: float) -> NDArray[np.int_]:
        return rows[self.broken_by(rows, eps) == SURVIVED] if len(rows) else rows

    def smallest(self, outcomes: pd.DataFrame, rounds: int = 6) -> NDArray[np.float64]:
        """Smallest eps found to break each example, up to ``2 ** -rounds`` of the threat's.

        ``outcomes`` are those at the threat's own eps, row by row those of the split. 0 for misclassified clean
        images, infinity for survivors. By bisection: an upper bound, like every attack's verdict.
        """
        fate, own = outcomes["broken_by"].to_numpy(str), self.adversary.threat.eps
        low, high = np.where(fate == SURVIVED, own, 0.0), np.where(fate == SURVIVED, np.inf, own)
        open_ = np.flatnonzero((fate != CLEAN) & np.isfinite(high))
        for _ in range(rounds):
            middle = (low + high) / 2
            for eps in np.unique(middle[open_]):
                rows = open_[middle[open_] == eps]
                broken = self.broken_by(rows, float(eps)) != SURVIVED
                high[rows[broken]], low[rows[~broken]] = eps, eps
        high[fate == CLEAN] = 0.0
        return high
