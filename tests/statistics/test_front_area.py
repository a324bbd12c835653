"""Areas under fronts: closed forms, ends, reach, and pairs."""

from __future__ import annotations

import numpy as np
import pytest

from robust_transfer.errors import ConfigError, DataError
from robust_transfer.statistics.front_area import front_areas
from robust_transfer.statistics.resampling import Correctness

N = 200


def right(clean: float, robust: float) -> Correctness:
    return Correctness(np.arange(N) < round(clean * N), np.arange(N) < round(robust * N))


CURVE = [right(0.8, 0.1), right(0.6, 0.3), right(0.5, 0.4)]


@pytest.mark.parametrize(
    ("over", "area", "reach"),
    [
        ((0.1, 0.4), (0.2 * 0.7 + 0.1 * 0.55) / 0.3, 1.0),
        ((0.0, 0.1), 0.8, 1.0),  # level to the left
        ((0.35, 0.45), 0.05 * 0.525 / 0.1, 0.5),  # nothing to the right
        ((0.5, 0.9), 0.0, 0.0),
        ((0.2, 0.25), 0.675, 1.0),  # inside one piece
        (None, (0.2 * 0.7 + 0.1 * 0.55) / 0.3, 1.0),
    ],
)
def test_an_area_is_that_of_the_piecewise_linear_front(
    over: tuple[float, float] | None, area: float, reach: float
) -> None:
    [found] = front_areas([[[*CURVE, right(0.3, 0.2)]]], over, resamples=3)
    assert found.figure.value == pytest.approx(area)
    assert found.reach == pytest.approx(reach)
    assert found.more.value == found.more.low == found.more.high == 0


def test_it_is_what_a_fine_sum_over_the_range_comes_to() -> None:
    """Drawn points, dominated ones and equal ones among them; the height of a front by its definition, on a fine grid."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = rng.integers(1, 9, 6) / 10, rng.integers(1, 10, 6) / 10
        grid = np.linspace(0.2, 0.9, 7001)
        pairs = [*zip(x, y, strict=True)]
        best = sorted({p for p in pairs if not any(q != p and q[0] >= p[0] and q[1] >= p[1] for q in pairs)})
        xs, ys = zip(*best, strict=True)
        heights = np.where(grid <= max(xs) + 1e-12, np.interp(grid, xs, ys), 0)
        [found] = front_areas([[[right(b, a) for a, b in pairs]]], (0.2, 0.9), resamples=1)
        assert found.figure.value == pytest.approx(heights.mean(), abs=1e-3)


def test_areas_are_means_over_seeds_and_set_against_the_first_on_the_same_images() -> None:
    rng = np.random.default_rng(0)
    u, v = rng.random(N), rng.random(N)

    def drawn(clean: float, robust: float) -> Correctness:
        return Correctness(u < clean, v < robust)

    base = [[drawn(0.7, 0.2), drawn(0.5, 0.4)], [drawn(0.75, 0.2), drawn(0.55, 0.4)]]
    same, better = base, [[drawn(0.8, 0.2), drawn(0.6, 0.4)], [drawn(0.85, 0.2), drawn(0.65, 0.4)]]
    first, equal, above = front_areas([base, same, better], (0.2, 0.3), resamples=300)
    each = [front_areas([[seed]], (0.2, 0.3), resamples=1)[0].figure.value for seed in base]
    assert first.figure.value == pytest.approx(np.mean(each))
    assert (equal.more.low, equal.more.high) == (0, 0)
    assert above.more.value == pytest.approx(above.figure.value - first.figure.value)
    assert 0 < above.more.low < above.more.value < above.more.high
    assert above.more.high - above.more.low < (above.figure.high - above.figure.low), "pairs know more"


def test_the_first_fronts_own_range_moves_with_its_resamples() -> None:
    rng = np.random.default_rng(1)
    u = rng.random(N)
    base = [Correctness(u < 0.7, u < 0.2), Correctness(u < 0.7, u < 0.4)]
    [fixed] = front_areas([[base]], (0.2, 0.4), resamples=300)
    [own] = front_areas([[base]], resamples=300)
    assert own.figure.value == pytest.approx((u < 0.7).mean())
    assert own.figure.low > fixed.figure.low, "a fixed range is left uncovered by half of the resamples"
    [point] = front_areas([[base[:1]]], resamples=20)
    assert point.figure.value == pytest.approx((u < 0.7).mean()), "a single point is its own range"
    assert point.reach == 1


def test_what_has_no_area_is_refused() -> None:
    for over in ((0.4, 0.2), (-0.1, 0.2), (0.2, 1.1)):
        with pytest.raises(ConfigError, match="range of robust accuracy"):
            front_areas([[CURVE]], over)
    wrong: list[list[list[list[Correctness]]]] = [[], [[CURVE], [CURVE, CURVE]], [[[]]]]
    for fronts in wrong:
        with pytest.raises(DataError):
            front_areas(fronts, (0.1, 0.2))
