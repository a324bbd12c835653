"""Budgets with a known robust accuracy: the evaluated one, those of the curve, and smaller ones by smallest eps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robust_transfer.evaluation import Evaluation
from robust_transfer.evaluation.result import SMALLEST_EPS
from robust_transfer.statistics.intervals import Proportion, wilson
from robust_transfer.threat import Threat

SHARES = (0.125, 0.25, 0.5, 0.75)  # of the evaluated eps


@dataclass(frozen=True)
class Level:
    """Robust accuracy at one budget. ``standing``: surviving examples, in the outcomes' order; None: unknown."""

    eps: float
    threat: str
    robust: Proportion
    standing: NDArray[np.bool_] | None
    own: bool = False

    @property
    def text(self) -> str:
        """Budget without its norm."""
        return self.threat.partition(":")[2]


def levels(evaluation: Evaluation) -> list[Level]:
    """Budgets in ascending order, the evaluated one among them.

    Where the smallest eps of each example was measured, standing is known at any budget below the evaluated one, and so it is
    at shares of it; the curve's other points follow only where that was not measured, or above.
    """
    threat, table = Threat.parse(evaluation.threat), evaluation.outcomes
    own = Level(threat.eps, evaluation.threat, evaluation.robust_accuracy, (table["broken_by"] == "").to_numpy(), True)
    found = {threat.eps: own}
    if SMALLEST_EPS in table and threat.eps > 0:
        smallest = table[SMALLEST_EPS].to_numpy()
        for share in SHARES:
            eps = threat.eps * share
            standing = stands(smallest, eps)
            text = str(Threat(norm=threat.norm, eps=eps))
            found[eps] = Level(eps, text, wilson(int(standing.sum()), len(standing)), standing)
    for point in evaluation.curve or ():
        eps = Threat.parse(point.threat).eps
        if not any(np.isclose(eps, known) for known in found):
            found[eps] = Level(eps, point.threat, point.robust_accuracy, None)
    return [found[eps] for eps in sorted(found)]


def stands(smallest: NDArray[np.float64], eps: float) -> NDArray[np.bool_]:
    """Mask of images with the smallest breaking eps ``smallest`` that survive ``eps``, up to rounding."""
    return smallest > eps * (1 + 1e-9)


def measured(evaluation: Evaluation) -> list[Level]:
    """Budgets that were attacked directly: the curve's points and the evaluated one."""
    own = next(level for level in levels(evaluation) if level.own)
    points = [
        Level(Threat.parse(point.threat).eps, point.threat, point.robust_accuracy, None)
        for point in evaluation.curve or ()
    ]
    return sorted([*(p for p in points if not np.isclose(p.eps, own.eps)), own], key=lambda level: level.eps)
