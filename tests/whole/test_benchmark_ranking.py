"""Benchmark of ranking: its rank correlation, its bootstrap over sources, and what a first choice loses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ranking import PREDICTORS, correlations, lost, over_sources, spearman, told, whole
from scipy.stats import spearmanr

ROWS = Path(__file__).parents[2] / "docs" / "ranking.jsonl"


def test_the_correlation_is_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        a, b = rng.integers(0, 6, 12).astype(float), rng.normal(size=12)
        assert spearman(a, b) == pytest.approx(float(spearmanr(a, b).statistic))
    assert np.isnan(spearman(np.ones(4), np.arange(4.0)))


def test_the_bootstrap_draws_sources_with_replacement() -> None:
    values = np.arange(40.0)
    at, low, high = over_sources(lambda drawn: float(values[drawn].mean()), 40)
    half = 1.96 * values.std() / np.sqrt(40)
    assert at == values.mean()
    assert (low, high) == pytest.approx((at - half, at + half), abs=0.15 * half)


def test_pairs_are_matched_by_source_and_the_whole_is_the_mean_over_targets() -> None:
    rows = []
    for target, sign in (("a", 1), ("b", -1)):
        for number in range(6) if sign > 0 else reversed(range(6)):  # in another order
            figures = dict.fromkeys({each for names in PREDICTORS.values() for each in names}, 0.0)
            rows.append({"source": f"s{number}", "task": target, **figures, "clean": number, "robust": sign * number})
            rows[-1]["first_order"] = number
    found = {(a, p, t): value for a, p, t, value, _, _ in correlations(pd.DataFrame(rows))}
    assert found["robust", "first_order", "a"] == pytest.approx(1)
    assert found["robust", "first_order", "b"] == pytest.approx(-1)
    assert found["robust", "first_order", "all"] == pytest.approx(0)


def test_what_the_first_choice_loses() -> None:
    rows = pd.DataFrame({"task": ["a"] * 3, "robust": [0.5, 0.3, 0.1], "one": [0.0, 2.0, 1.0], "two": [0.0, 1.0, 1.0]})
    assert lost(rows, "robust", "one") == pytest.approx(20)
    assert lost(rows, "robust", "two") == pytest.approx(30), "ties share"


def test_sources_without_all_targets_are_left_out() -> None:
    table = pd.DataFrame(
        {"source": ["x", "x", "y", "z", "z"], "task": ["a", "b", "a", "a", "b"], "robust": [0.1] * 4 + [None]}
    )
    assert set(whole(table)["source"]) == {"x"}


def test_the_page_shows_what_the_rows_say() -> None:
    rows = pd.DataFrame([json.loads(line) for line in ROWS.read_text().splitlines()])
    page = (ROWS.parent / "sources.md").read_text()
    for line in told(rows).splitlines():
        assert line in page
