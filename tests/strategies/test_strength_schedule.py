"""Shares of a strength: by hand, at both ends and in the middle."""

from __future__ import annotations

import pytest

from robust_transfer.strategies.strength_schedule import StrengthSchedule, strength_share


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [
        ("constant", [1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear-up", [0.2, 0.4, 0.6, 0.8, 1.0]),
        ("linear-down", [1.0, 0.8, 0.6, 0.4, 0.2]),
        ("cosine", [1.0, 0.6 + 0.4 * 0.5**0.5, 0.6, 0.6 - 0.4 * 0.5**0.5, 0.2]),
    ],
)
def test_shares_by_hand(schedule: StrengthSchedule, wanted: list[float]) -> None:
    assert [strength_share(schedule, 0.2, step, 5) for step in range(5)] == pytest.approx(wanted)


def test_a_single_step_is_the_first() -> None:
    assert strength_share("linear-down", 0.0, 0, 1) == 1.0
    assert strength_share("linear-up", 0.0, 0, 1) == 0.0
