"""Budgets that an evaluation knows, from its smallest eps and its curve."""

from __future__ import annotations

import numpy as np
import pytest
from report_helpers import EPS, evaluation, outcomes

from robust_transfer.evaluation.curve import CurvePoint
from robust_transfer.report.levels import levels, measured, stands
from robust_transfer.statistics.intervals import wilson

NAMES = tuple("abcde")


def test_robust_accuracy_below_the_budget_is_counted_from_the_smallest_eps() -> None:
    table = outcomes(80)
    found = levels(evaluation(table, NAMES))
    assert [level.threat for level in found] == [f"linf:{k}/255" for k in (1, 2, 4, 6, 8)]
    for level, k in zip(found, (1, 2, 4, 6, 8), strict=True):
        stands = [s > k / 255 + 1e-9 for s in table["smallest_eps"]]
        assert level.robust.value == pytest.approx(sum(stands) / 80)
        assert level.standing is not None
        assert level.standing.tolist() == stands
    assert [level.own for level in found] == [False] * 4 + [True]


def test_a_curve_alone_tells_shares_and_not_which_images() -> None:
    points = [
        CurvePoint("linf:4/255", wilson(30, 60)),
        CurvePoint("linf:8/255", wilson(1, 60)),
        CurvePoint("linf:16/255", wilson(2, 60)),
    ]
    made = evaluation(outcomes(60, smallest=False), NAMES, curve=points)
    found = levels(made)
    assert [(level.threat, level.standing is None) for level in found] == [
        ("linf:4/255", True), ("linf:8/255", False), ("linf:16/255", True),
    ]  # fmt: skip
    assert found[1].robust == made.robust_accuracy  # the evaluation's own figure, not the curve's
    assert [level.text for level in measured(made)] == ["4/255", "8/255", "16/255"]


def test_without_either_there_is_one_budget() -> None:
    made = evaluation(outcomes(60, smallest=False), NAMES, threat="l2:0.5")
    assert [(level.eps, level.own) for level in levels(made)] == [(0.5, True)]
    assert np.isclose(levels(evaluation(outcomes(60), NAMES))[-1].eps, EPS)


def test_a_budget_of_nothing_is_the_only_one() -> None:
    made = evaluation(outcomes(60), NAMES, threat="linf:0")
    assert [(level.eps, level.own) for level in levels(made)] == [(0.0, True)]


def test_rounding_flips_nothing() -> None:
    """Bisection finds 3/4 as (1/2 + 1) / 2, and each sum may be off in its last bit."""
    eps = EPS * 0.75
    smallest = np.array([np.nextafter(eps, 0), eps, np.nextafter(eps, 1), eps + EPS / 64])
    assert stands(smallest, eps).tolist() == [False, False, False, True]
