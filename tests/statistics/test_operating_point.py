"""Operating points: the front against a search over all pairs, and the point that is asked for."""

from __future__ import annotations

import itertools
import random

import pytest

from robust_transfer.errors import ConfigError
from robust_transfer.statistics.operating_point import OperatingPoint, pareto

POINTS = [(0.5, 0.30), (0.6, 0.20), (0.62, 0.28), (0.70, 0.10)]


@pytest.mark.parametrize(
    ("asked", "most", "row", "met"),
    [
        ({"keep": 0.9}, None, 2, True),
        ({"keep": 0.95}, None, 0, True),
        ({"keep": 0.3}, None, 3, True),
        ({"keep": 0.9}, 0.10, 3, True),
        ({"keep": 0.9}, 0.40, 0, False),
        ({"clean": 0.55}, None, 2, True),
        ({"clean": 0.9}, None, 3, False),
    ],
)
def test_the_point_is_the_one_asked_for(asked: dict[str, float], most: float | None, row: int, met: bool) -> None:
    assert OperatingPoint(**asked).select(POINTS, most) == (row, met)


def test_of_equals_it_is_the_first() -> None:
    assert OperatingPoint().select([(0.5, 0.3), (0.5, 0.3)])[0] == 0


def test_the_front_is_what_no_pair_beats() -> None:
    rng = random.Random(0)
    for _ in range(200):
        points = [(rng.randrange(6) / 5, rng.randrange(6) / 5) for _ in range(rng.randrange(1, 9))]
        beaten = {
            a
            for a, b in itertools.permutations(range(len(points)), 2)
            if points[b] != points[a] and points[b][0] >= points[a][0] and points[b][1] >= points[a][1]
        }
        found = pareto(points)
        assert set(found) == set(range(len(points))) - beaten
        assert [points[row][0] for row in found] == sorted(points[row][0] for row in found)


@pytest.mark.parametrize("wrong", [{"keep": 0}, {"keep": 1.1}, {"clean": 1.0}, {"clean": 0.0}])
def test_shares_are_shares(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        OperatingPoint(**wrong)
