"""Growth of eps: values by hand, its ends, and what makes no sense."""

from __future__ import annotations

from typing import Any

import pytest

from robust_transfer.errors import ConfigError
from robust_transfer.threat import Threat
from robust_transfer.training import EpsSchedule

THREAT = Threat.parse("l2:2")


def test_shares_by_hand() -> None:
    schedule = EpsSchedule(start=0.2, hold=0.25, ramp=0.5)
    shares = [schedule.share(done) for done in (0.0, 0.2, 0.25, 0.5, 0.625, 0.75, 0.9)]
    assert shares == pytest.approx([0.2, 0.2, 0.2, 0.6, 0.8, 1.0, 1.0])
    now = schedule.at(THREAT, 0.5)
    assert now.norm == "l2"
    assert now.eps == pytest.approx(1.2)


def test_without_hold_and_ramp_eps_is_the_threats_own() -> None:
    assert EpsSchedule().at(THREAT, 0.0) is THREAT
    assert not EpsSchedule().active


def test_a_hold_alone_is_a_step_and_a_ramp_may_fill_training() -> None:
    assert [EpsSchedule(hold=0.5).share(done) for done in (0.0, 0.49, 0.5)] == [0.0, 0.0, 1.0]
    assert [EpsSchedule(ramp=1.0).share(done) for done in (0.0, 0.5)] == [0.0, 0.5]


@pytest.mark.parametrize(
    "wrong", [{"ramp": 1.1}, {"hold": 0.6, "ramp": 0.6}, {"start": -0.1, "ramp": 1}, {"start": 2, "ramp": 1}]
)
def test_shares_are_shares(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="shares from 0 to 1"):
        EpsSchedule(**wrong)


def test_a_start_that_would_do_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="eps_start has no effect"):
        EpsSchedule(start=0.5)
