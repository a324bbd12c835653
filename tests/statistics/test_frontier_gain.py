"""Points above a front: closed forms, what a dominated point does, where the points lie, and that the interval covers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robust_transfer.errors import DataError
from robust_transfer.statistics.frontier_gain import above_front, place
from robust_transfer.statistics.resampling import Correctness

N = 200


def right(clean: float, robust: float) -> Correctness:
    """So many of :data:`N` images are right; the others of two cells with equal shares are the same ones."""
    return Correctness(np.arange(N) < round(clean * N), np.arange(N) < round(robust * N))


CURVE = [right(0.8, 0.1), right(0.6, 0.3), right(0.5, 0.4)]


@pytest.mark.parametrize(
    ("point", "gain", "where"),
    [
        ((0.75, 0.2), 0.05, "on"),
        ((0.6, 0.3), 0.0, "on"),
        ((0.5, 0.35), -0.05, "on"),
        ((0.55, 0.5), 0.05, "above"),
        ((0.9, 0.05), 0.1, "below"),
    ],
)
def test_a_gain_is_read_off_the_piecewise_linear_front(point: tuple[float, float], gain: float, where: str) -> None:
    found = above_front([right(*point)], [CURVE], resamples=50)
    assert found.value == pytest.approx(gain)
    assert place([right(*point)], [CURVE]) == where


def test_a_point_that_another_beats_is_no_part_of_the_front() -> None:
    beaten = right(0.3, 0.25)
    assert above_front([right(0.75, 0.25)], [[*CURVE, beaten]], resamples=2).value == pytest.approx(
        0.75 - 0.6, abs=0.051
    )
    assert above_front([right(0.3, 0.25)], [[*CURVE, beaten]], resamples=2).value < -0.25


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(3)), st.integers(0, 2))
def test_the_order_of_a_curve_is_nothing_and_its_own_points_gain_nothing(order: list[int], one: int) -> None:
    shuffled = [CURVE[i] for i in order]
    found = above_front([CURVE[one]], [shuffled], resamples=20)
    assert (found.value, found.low, found.high) == pytest.approx((0, 0, 0))


def test_each_seed_is_set_against_its_own_curve() -> None:
    low = [right(clean.clean.mean() - 0.2, clean.robust.mean()) for clean in CURVE]
    points = [right(0.7, 0.2), right(0.5, 0.2)]
    assert above_front(points, [CURVE, low], resamples=2).value == pytest.approx(0.0)
    assert above_front(points, [CURVE], resamples=2).value == pytest.approx(-0.1)


def test_the_interval_covers_what_independent_images_would_give() -> None:
    """Cells whose images are independent draws, a true gain of 0.1: the interval holds it in most of 60 worlds."""
    rng, held = np.random.default_rng(0), 0

    def draw(clean: float, robust: float) -> Correctness:
        u = rng.random(N)
        return Correctness(u < clean, u < robust)

    for _ in range(60):
        found = above_front([draw(0.8, 0.2)], [[draw(0.8, 0.1), draw(0.6, 0.3)]], resamples=200)
        held += found.low <= 0.1 <= found.high
    assert 51 <= held <= 60


def test_what_cannot_be_compared_is_refused() -> None:
    short = Correctness(np.ones(3), np.ones(3))
    for points, curves in (([], [CURVE]), ([right(1, 1)], []), ([right(1, 1)], [[]]), ([right(1, 1)] * 3, [CURVE] * 2)):
        with pytest.raises(DataError):
            above_front(points, curves)
    with pytest.raises(DataError, match="different numbers of images"):
        above_front([short], [CURVE])
