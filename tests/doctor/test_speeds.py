"""Speeds of a step."""

from __future__ import annotations

from helpers import QUIET

from robust_transfer.doctor.speeds import speeds


def test_steps_are_measured_in_both_precisions() -> None:
    with QUIET.at_work():
        found = speeds(QUIET, compiled=False)
    assert [each.name for each in found] == ["float32", "bfloat16"]
    assert all(0.05 < each.milliseconds < 5000 for each in found)
