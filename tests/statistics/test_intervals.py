"""Intervals: published values, the equation that defines them, and whether the bootstrap covers what it should."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robust_transfer.errors import DataError
from robust_transfer.statistics.intervals import Z, mean_of, of_same_images, over_seeds, paired_bootstrap, wilson


# Newcombe 1998, Statistics in Medicine 17:857, table I, method 3; and 5/10 worked by hand
@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (5, 10, 0.2366, 0.7634),
        (20, 20, 0.8389, 1.0),
    ],
)
def test_wilson_gives_published_values(successes: int, n: int, low: float, high: float) -> None:
    found = wilson(successes, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    assert found.value == successes / n
    assert found.n == n


@given(st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_ends_solve_its_equation(counts: tuple[int, int]) -> None:
    successes, n = counts
    found = wilson(successes, n)
    assert 0 <= found.low <= found.value <= found.high <= 1
    for end in (found.low, found.high):
        assert abs(found.value - end) == pytest.approx(Z * math.sqrt(end * (1 - end) / n), abs=1e-9)


def test_shares_that_are_none_are_refused() -> None:
    with pytest.raises(DataError, match="no examples"):
        wilson(0, 0)
    with pytest.raises(ValueError, match="3 of 2"):
        wilson(3, 2)


def test_a_mean_of_shares_has_the_interval_of_its_parts() -> None:
    assert mean_of([wilson(81, 263)]) == wilson(81, 263)
    # worked by hand from Newcombe's ends for 81/263 and 15/148: half of the difference's ends, squares added
    found = mean_of([wilson(81, 263), wilson(15, 148)])
    assert found.value == pytest.approx((81 / 263 + 15 / 148) / 2)
    below, above = math.hypot(0.3080 - 0.2553, 0.1014 - 0.0624) / 2, math.hypot(0.3662 - 0.3080, 0.1605 - 0.1014) / 2
    assert (found.value - found.low, found.high - found.value) == pytest.approx((below, above), abs=1e-4)
    assert found.n == 411
    with pytest.raises(DataError, match="no shares"):
        mean_of([])


def test_a_mean_of_shares_is_covered_as_often_as_it_says() -> None:
    """Rare classes among common ones, recalls near 1: a variance estimated from the shares would be far too small."""
    rng = np.random.default_rng(0)
    counts, recalls = np.array([400, 60, 12, 5]), np.array([0.95, 0.9, 0.97, 0.8])
    drawn = rng.binomial(counts, recalls, size=(2000, 4))
    ends = [mean_of([wilson(int(k), int(n)) for k, n in zip(row, counts, strict=True)]) for row in drawn]
    covered = np.mean([found.low <= recalls.mean() <= found.high for found in ends])
    assert 0.94 < covered < 0.985
    shares = drawn / counts
    half = Z * np.sqrt((shares * (1 - shares) / counts).sum(1)) / 4
    assert np.mean(np.abs(shares.mean(1) - recalls.mean()) <= half) < 0.85  # what the usual one would have done


def test_a_mean_over_seeds_adds_the_intervals_of_images_and_of_seeds() -> None:
    assert over_seeds([wilson(30, 100)]) == wilson(30, 100)
    alike = over_seeds([wilson(30, 100)] * 3)  # no seed differs, so the images are all that is uncertain
    assert (alike.low, alike.high) == pytest.approx((wilson(30, 100).low, wilson(30, 100).high))
    values = (0.20, 0.30, 0.40)
    many = over_seeds([wilson(round(value * 10**9), 10**9) for value in values])  # the images are certain
    half = 4.302653 * 0.1 / 3**0.5  # Student's t of two degrees of freedom, from a table
    assert (many.value, many.low, many.high) == pytest.approx((0.3, 0.3 - half, 0.3 + half), abs=1e-4)
    few = over_seeds([wilson(round(value * 100), 100) for value in values])
    assert few.high - few.value == pytest.approx(math.hypot(half, wilson(30, 100).high - 0.3))
    assert few.n == 100
    assert over_seeds([wilson(0, 10), wilson(10, 10)]).low == 0
    with pytest.raises(DataError, match="no seeds"):
        over_seeds([])


def test_a_mean_over_seeds_is_covered_as_often_as_it_says() -> None:
    """Seeds with a rate of their own, that see images of which each is right or wrong for all of them together."""
    rng, n, truth = np.random.default_rng(0), 200, 0.4
    hits = 0
    for _ in range(400):
        rates, hard = truth + 0.03 * rng.standard_normal(3), rng.random(n)
        found = over_seeds([wilson(int((hard < rate).sum()), n) for rate in rates])
        hits += found.low <= truth <= found.high
    assert hits >= 0.94 * 400


def test_the_bootstrap_agrees_with_a_plain_one() -> None:
    rng = np.random.default_rng(0)
    rows = rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.6, 0.3], size=(3, 150))
    plain = []
    for _ in range(4000):
        seeds, columns = rng.integers(0, 3, 3), rng.integers(0, 150, 150)
        plain.append(rows[np.ix_(seeds, columns)].mean())
    found = paired_bootstrap(list(rows))
    assert found.value == pytest.approx(rows.mean())
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(plain, [0.025, 0.975])), abs=0.01)


def test_the_bootstrap_of_separate_images_agrees_with_a_plain_one() -> None:
    rng = np.random.default_rng(1)
    rows = [rng.choice([-1.0, 0.0, 1.0], p=p, size=n) for p, n in (([0.1, 0.6, 0.3], 80), ([0.3, 0.6, 0.1], 200))]
    plain = []
    for _ in range(4000):
        drawn = [rows[seed] for seed in rng.integers(0, 2, 2)]
        plain.append(np.mean([rng.choice(row, len(row)).mean() for row in drawn]))
    found = paired_bootstrap(rows, same_images=False)
    assert found.value == pytest.approx(np.mean([row.mean() for row in rows]))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(plain, [0.025, 0.975])), abs=0.015)


def test_the_bootstrap_covers_the_truth_about_95_times_in_100() -> None:
    rng, truth, covered = np.random.default_rng(2), 0.1, 0
    for trial in range(400):
        sample = rng.choice([-1.0, 0.0, 1.0], p=[0.15, 0.6, 0.25], size=200)
        found = paired_bootstrap([sample], resamples=1000, seed=trial)
        covered += found.low <= truth <= found.high
    assert 0.91 <= covered / 400 <= 0.98


def test_repeating_a_seed_does_not_narrow_what_hangs_on_the_images() -> None:
    row = np.random.default_rng(3).choice([-1.0, 0.0, 1.0], size=300)
    one, four = paired_bootstrap([row]), paired_bootstrap([row] * 4)
    assert four.high - four.low == pytest.approx(one.high - one.low, rel=0.05)
    own = paired_bootstrap([row] * 4, same_images=False)
    assert own.high - own.low == pytest.approx((one.high - one.low) / 2, rel=0.05)


def test_seeds_that_disagree_widen_the_interval() -> None:
    up, down = np.full(100, 0.2), np.full(100, -0.2)
    found = paired_bootstrap([up, down])
    assert (found.low, found.high) == pytest.approx((-0.2, 0.2))
    assert found.value == pytest.approx(0)


def test_no_difference_is_no_difference() -> None:
    found = paired_bootstrap([np.zeros(50), np.zeros(50)])
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_the_bootstrap_is_seeded() -> None:
    row = np.random.default_rng(4).choice([-1.0, 0.0, 1.0], size=97)
    assert paired_bootstrap([row], seed=5) == paired_bootstrap([row], seed=5)
    assert paired_bootstrap([row], seed=5, resamples=50) != paired_bootstrap([row], seed=6, resamples=50)


def test_many_values_are_drawn_in_parts_that_fit_into_memory() -> None:
    row = np.random.default_rng(5).normal(1.0, 2.0, size=3000)
    found = paired_bootstrap([row])
    half = Z * row.std() / math.sqrt(3000)
    assert (found.low, found.high) == pytest.approx((row.mean() - half, row.mean() + half), abs=0.01)


def test_seeds_without_images_are_refused() -> None:
    for rows in ([], [np.zeros(0)], [np.zeros((2, 2))]):
        with pytest.raises(DataError, match="nothing to compare"):
            paired_bootstrap(rows)
    with pytest.raises(ValueError, match="different numbers"):
        paired_bootstrap([np.zeros(3), np.zeros(4)])


def test_a_mean_over_the_same_images_is_as_sure_as_its_images() -> None:
    one, same = wilson(15, 148), of_same_images([wilson(15, 148)] * 75)
    assert (same.value, same.low, same.high) == pytest.approx((one.value, one.low, one.high), abs=1e-12)
    found = of_same_images([wilson(10, 40), wilson(31, 40)])
    assert (found.value, found.n) == (41 / 80, 40)
    for end in (found.low, found.high):
        assert abs(found.value - end) == pytest.approx(Z * math.sqrt(end * (1 - end) / 40), abs=1e-9)
    with pytest.raises(DataError, match="no shares"):
        of_same_images([])
    with pytest.raises(ValueError, match="different numbers"):
        of_same_images([wilson(1, 2), wilson(1, 3)])
