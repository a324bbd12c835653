"""Contenders, and the order in which they are tried."""

from __future__ import annotations

from helpers import make_task

from robust_transfer.choosing.contenders import L2, LWF, READINGS, closer_look, first_look
from robust_transfer.strategies import Frontier, LinearProbe, LwF


def test_cheap_ones_come_first_and_lwf_is_the_frontiers() -> None:
    found = closer_look("bundled")
    probes = len(READINGS) + len(L2)
    assert [type(one.strategy) for one in found] == [LinearProbe] * probes + [LwF] * len(LWF)
    readings = [one.strategy for one in found[: len(READINGS)]]
    assert [(one.grid, one.mirror) for one in readings] == [(grid, True) for grid, _ in READINGS]
    frontier = Frontier()
    assert {(l2, strength) for l2 in frontier.heads for strength in frontier.strengths} == set(LWF)
    assert all(
        one.strategy == frontier.lwf(l2, strength) for one, (l2, strength) in zip(found[probes:], LWF, strict=True)
    )
    assert LWF[0] == (0.1, 1.0)


def test_probes_that_share_features_take_no_passes() -> None:
    task = make_task()
    assert first_look("a").passes(task) == LinearProbe().passes(task) > 0
    reading, *rest, lwf = closer_look("a")
    assert rest[len(READINGS) - 1].passes(task) == 0
    assert reading.passes(task) == 2 * LinearProbe().passes(task), "features of their own, of both views"
    assert lwf.passes(task) == lwf.strategy.passes(task) > 0


def test_folders_have_names_of_their_own_that_lead_nowhere() -> None:
    found = [one for source in ("../up/x", "bundled", "hf:a/b") for one in (first_look(source), *closer_look(source))]
    names = [one.folder for one in found]
    assert len(set(names)) == len(names)
    assert not any("/" in name or name.startswith(".") for name in names)
    assert len(first_look("x" * 500).folder) <= 100
