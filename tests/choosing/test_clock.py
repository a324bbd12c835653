"""Forecasts of a choice."""

from __future__ import annotations

import time

import pytest

from robust_transfer.choosing.clock import CAUTION, Clock


def test_time_goes_by(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    clock = Clock(60.0)
    now[0] = 130.0
    assert (clock.spent, clock.left) == (30.0, 30.0)
    now[0] = 170.0
    assert clock.left == -10.0


def test_the_like_is_what_forecasts_go_by() -> None:
    clock = Clock(60.0)
    assert clock.forecast("making", "a", 100) == 0.0  # nobody knows
    clock.learn("making", "a", passes=1000, seconds=2.0)
    assert clock.forecast("making", "a", 100) == pytest.approx(CAUTION * 0.2)
    assert clock.forecast("attacking", "a", 100) == pytest.approx(
        CAUTION * 0.2
    )  # the other kind's, for want of its own
    clock.learn("attacking", "a", passes=10, seconds=1.0)
    assert clock.forecast("attacking", "a", 100) == pytest.approx(CAUTION * 10.0)
    assert clock.forecast("making", "a", 100) == pytest.approx(CAUTION * 0.2)
    assert clock.forecast("making", "b", 100) == 0.0  # another network's pace says nothing
    clock.learn("making", "a", passes=0, seconds=5.0)
    assert clock.forecast("making", "a", 100) == pytest.approx(CAUTION * 0.2)
