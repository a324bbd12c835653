"""Classes one by one, against counts in plain Python."""

from __future__ import annotations

from collections import Counter

import pytest
from report_helpers import evaluation, outcomes
from scipy.stats import binomtest

from robust_transfer.report.classes import NO_NUMBERS, balanced, by_class, confused, confusion, name_of
from robust_transfer.report.levels import levels

NAMES = tuple("abcde")


def test_each_class_has_its_own_shares_and_the_worst_comes_first() -> None:
    table = outcomes(83)
    made = evaluation(table, NAMES)
    rows = by_class(made, levels(made))
    for row in rows:
        mine = [r for r in table.to_dict("records") if NAMES[r["label"]] == row.name]
        clean, robust = sum(r["broken_by"] != "clean" for r in mine), sum(r["broken_by"] == "" for r in mine)
        assert (row.n, row.clean.value, row.robust.value) == (len(mine), clean / len(mine), robust / len(mine))
        exact = binomtest(robust, len(mine)).proportion_ci(method="wilson")
        assert (row.robust.low, row.robust.high) == pytest.approx((exact.low, exact.high))
        at_two = row.at[1]
        assert at_two is not None
        assert at_two.value == sum(r["smallest_eps"] > 2.001 / 255 for r in mine) / len(mine)
    assert [row.robust.value for row in rows] == sorted(row.robust.value for row in rows)
    assert balanced(rows)[1] == pytest.approx(sum(row.robust.value for row in rows) / 5)


def test_confusions_are_counted() -> None:
    table = outcomes(83)
    labels, counts = confusion(table, "adversarial_prediction")
    pairs = Counter(zip(table["label"], table["adversarial_prediction"], strict=True))
    assert labels == [0, 1, 2, 3, 4]
    assert {(i, j): counts[i][j] for i in range(5) for j in range(5) if counts[i][j]} == pairs
    wrong = {pair: count for pair, count in pairs.items() if pair[0] != pair[1]}
    found = confused(evaluation(table, NAMES), "adversarial_prediction", 3)
    assert [pair.count for pair in found] == sorted(wrong.values(), reverse=True)[:3]
    assert wrong[NAMES.index(found[0].true), NAMES.index(found[0].taken)] == found[0].count
    assert found[0].n == (table["label"] == NAMES.index(found[0].true)).sum()


def test_a_prediction_that_is_none_has_a_name() -> None:
    made = evaluation(outcomes(10), NAMES[:3])
    assert [name_of(made, label) for label in (-1, 2, 4)] == [NO_NUMBERS, "c", "class 4"]
