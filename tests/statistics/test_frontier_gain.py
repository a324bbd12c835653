"""Points above a front: closed forms, what a dominated point does, where the points lie, and that the interval covers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robust_transfer.errors import DataError
from robust_transfer.statistics.frontier_gain import above_front, gains, place
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
    assert above_front([right(0.75, 0.2)], [[*CURVE, beaten]], resamples=2).value == pytest.approx(0.75 - 0.7)
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


def test_gains_of_many_points_are_what_plain_numpy_finds() -> None:
    """Shares, fronts, interpolation and intervals, written out for one point and one resample at a time."""
    rng = np.random.default_rng(3)
    cells = rng.random((3, 6, 2, 80)) < rng.uniform(
        0.2, 0.9, (3, 6, 2, 1)
    )  # seeds; 4 of a curve, 2 points; levels; images
    cells[:, :, 1] &= cells[:, :, 0]
    made = [[Correctness(*cells[s, c]) for c in range(6)] for s in range(3)]
    points, curves = [[one[c] for one in made] for c in (4, 5)], [one[:4] for one in made]
    found = gains(points, curves, resamples=60)

    def gain(images: list[int], seed: int, point: int) -> float:
        clean, robust = (np.array([cells[seed, c, level, images].mean() for c in range(6)]) for level in (0, 1))
        better = [
            c
            for c in range(4)
            if not any((robust[d], clean[d]) != (robust[c], clean[c]) and robust[d] >= robust[c] and clean[d] >= clean[c]
                       for d in range(4))
        ]  # fmt: skip
        knots = sorted({(robust[c], clean[c]) for c in better})
        height = np.interp(robust[point], [k for k, _ in knots], [h for _, h in knots])
        return float(clean[point] - height)

    draws = np.random.default_rng(0)
    worlds = []
    for _ in range(60):
        counts, drawn = draws.multinomial(80, np.full(80, 1 / 80)), draws.choice(np.arange(3), 3)
        images = [i for i, times in enumerate(counts) for _ in range(times)]
        worlds.append([np.mean([gain(images, s, point) for s in drawn]) for point in (4, 5)])
    for number, point in enumerate((4, 5)):
        each = [gain(list(range(80)), s, point) for s in range(3)]
        assert found[number].by_seed == pytest.approx(each)
        low, high = np.quantile([world[number] for world in worlds], (0.025, 0.975))
        figure = found[number].figure
        assert (figure.value, figure.low, figure.high) == pytest.approx((np.mean(each), low, high))
        ends = [(cells[s, :4, 1].mean(1).min(), cells[s, :4, 1].mean(1).max()) for s in range(3)]
        at = [cells[s, point, 1].mean() for s in range(3)]
        assert found[number].places == tuple(
            "below" if x < low else "above" if x > high else "on" for x, (low, high) in zip(at, ends, strict=True)
        )


def test_outside_of_the_curve_of_any_seed_there_is_no_gain() -> None:
    inside, less, more = right(0.7, 0.2), right(0.9, 0.05), right(0.4, 0.6)
    found = gains([[inside, inside], [inside, less], [more, more]], [CURVE, CURVE], resamples=2)
    assert [gain.known for gain in found] == [True, False, False]
    assert [gain.places for gain in found] == [("on", "on"), ("on", "below"), ("above", "above")]
    assert gains([[right(0.8, 0.1)], [right(0.5, 0.4)]], [CURVE], resamples=2)[1].known, "the ends are on it"


def test_of_equally_robust_points_of_a_curve_the_better_one_counts() -> None:
    for curve in ([right(0.5, 0.2), right(0.7, 0.2)], [right(0.7, 0.2), right(0.5, 0.2)]):
        assert above_front([right(0.7, 0.2)], [[*curve, right(0.4, 0.3)]], resamples=2).value == pytest.approx(0.0)


def test_points_of_other_seeds_are_refused() -> None:
    with pytest.raises(DataError, match="seeds"):
        gains([CURVE[:1], CURVE[:2]], [CURVE])
    with pytest.raises(DataError):
        gains([], [CURVE])
