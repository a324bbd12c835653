"""Eps on a schedule: every method that crafts heeds it, at the right step, and it is logged."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from helpers import QUIET, batch_of, log_of, make_classifier, make_task

from robust_transfer.pretraining import PGDAT, Fast, Free, Pretraining, Trades
from robust_transfer.pretraining.crafting import CraftingObjective
from robust_transfer.pretraining.free import FreeObjective
from robust_transfer.threat import Threat
from robust_transfer.training import EpsSchedule, TrainingSettings, fit

THREAT = Threat.parse("linf:8/255")
METHODS = [PGDAT(steps=2, step=1.0), Fast(step=1.0), Trades(steps=2, step=1.0), Free(replays=1, batch_size=20)]


def made(method: Pretraining) -> CraftingObjective:
    objective = method.objective(make_classifier(), make_task(), THREAT, QUIET)
    assert isinstance(objective, CraftingObjective)
    objective.schedule = EpsSchedule(start=0.25, ramp=1.0)
    return objective


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_every_method_crafts_within_the_eps_of_the_moment(method: Pretraining) -> None:
    """Steps as long as the eps itself: they end at its boundary wherever the image's range allows."""
    objective, task = made(method).train(), make_task()
    for done, share in ((0.0, 0.25), (0.2, 0.4), (0.99, 0.9925)):
        batch = batch_of(task, 0, done=done)
        out = objective(batch)
        if isinstance(objective, FreeObjective):
            out["loss"].backward()
            objective.after_backward(lambda rows: rows)
            moved = objective.delta
        else:
            moved = objective.craft(batch) - batch.images  # type: ignore[operator]
        assert float(moved.abs().max()) == pytest.approx(share * THREAT.eps, rel=1e-4)
        assert float(out["eps"]) == pytest.approx(share * THREAT.eps)


def test_batches_know_how_much_of_training_is_done_and_the_log_has_eps(tmp_path: Path) -> None:
    objective, seen, task = made(PGDAT(steps=1)), list[float](), make_task()
    objective.register_forward_pre_hook(lambda module, given: seen.append(given[0].done))
    settings = TrainingSettings(epochs=2, batch_size=32, learning_rate=1e-3, augment=False)
    fit(objective, task.train, settings, dataclasses.replace(QUIET, out=tmp_path))
    assert seen == [step / 8 for step in range(8)]
    logged = {record["step"]: record["eps"] for record in log_of(tmp_path) if "eps" in record}
    assert logged[1] == pytest.approx(0.25 * THREAT.eps)  # counted from 1 in the log
    assert logged[8] == pytest.approx((0.25 + 0.75 * 7 / 8) * THREAT.eps)


def test_without_a_schedule_nothing_is_logged_of_it() -> None:
    objective = PGDAT(steps=1).objective(make_classifier(), make_task(), THREAT, QUIET)
    out = objective(batch_of(make_task(), 0))
    assert "eps" not in out
    assert torch.isfinite(out["loss"])
