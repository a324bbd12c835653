"""Resamples: the sample in row 0, the same images for all cells, and seeds drawn beside them."""

from __future__ import annotations

import numpy as np
import pytest

from robust_transfer.errors import DataError
from robust_transfer.statistics.resampling import Correctness, difference, resampled


def test_row_0_is_the_sample_and_all_cells_see_the_same_images() -> None:
    rng = np.random.default_rng(0)
    clean, robust = rng.random(50) < 0.7, rng.random(50) < 0.3
    cells = [Correctness(clean, robust), Correctness(~clean, robust)]
    drawn = resampled(cells, 3, resamples=450)
    assert drawn.clean.shape == (451, 2)
    assert drawn.clean[0] == pytest.approx([clean.mean(), 1 - clean.mean()])
    assert drawn.robust[0] == pytest.approx([robust.mean()] * 2)
    assert drawn.clean.sum(1) == pytest.approx(np.ones(451)), "what one cell has right the other has wrong"
    assert len({*drawn.clean[:, 0]}) > 10
    assert drawn.seeds[0].tolist() == [1, 1, 1]
    assert set(drawn.seeds.sum(1)) == {3}
    assert drawn.seeds[1:].max() == 3


def test_a_mean_over_seeds_counts_the_drawn_ones() -> None:
    drawn = resampled([Correctness(np.ones(2), np.ones(2))], 2, resamples=40)
    values = np.tile([[1.0, 0.0]], (41, 1))
    found = drawn.over_seeds(values)
    assert found[0] == 0.5
    assert found == pytest.approx(drawn.seeds[:, 0] / 2)
    assert set(found) == {0.0, 0.5, 1.0}


def test_shares_vary_as_a_binomial_does() -> None:
    drawn = resampled([Correctness(np.arange(100) < 30, np.arange(100) < 30)], 1, resamples=2000)
    assert drawn.clean[1:].std() == pytest.approx((0.3 * 0.7 / 100) ** 0.5, rel=0.1)


def test_a_difference_is_row_0_with_percentiles_of_the_others() -> None:
    found = difference(np.array([0.2, *np.linspace(0, 1, 41)]))
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.025, 0.975))
    alone = difference(np.array([0.2]))
    assert (alone.low, alone.high) == (0.2, 0.2)


def test_cells_of_other_images_are_refused() -> None:
    with pytest.raises(DataError, match="different numbers"):
        resampled([Correctness(np.ones(2), np.ones(2)), Correctness(np.ones(3), np.ones(3))], 1)
