"""NEFT: bounds that hold, a step-by-step reference, and what stays frozen."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import QUIET, make_source

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.data import Task, to_pixels
from robust_transfer.errors import ConfigError
from robust_transfer.strategies import NEFT, transfer
from robust_transfer.strategies.neft import NEFTObjective, spectral_norm
from robust_transfer.training import Batch

SETTINGS = {"epochs": 4, "batch_size": 16, "head": "new", "l2": 0.1, "learning_rate": 0.1, "blocks": 2}


def norms(source: Checkpoint, names: list[str]) -> dict[str, float]:
    """Largest singular values, by NumPy."""
    return {
        name: float(
            np.linalg.svd(source.classifier.get_parameter(name).detach().flatten(1).numpy(), compute_uv=False)[0]
        )
        for name in names
    }


@pytest.mark.parametrize("beta", [None, 0.5])
def test_no_layer_amplifies_more_than_its_bound(beta: float | None, task: Task) -> None:
    source, strategy = make_source(), NEFT.from_settings({**SETTINGS, "beta": beta})
    result = transfer(source, task, strategy, run=QUIET)
    names = strategy.layers(source.classifier)
    assert names
    assert all(name.startswith(("body.units.4.", "body.units.5.")) for name in names)
    before, after = norms(source, names), norms(result, names)
    for name in names:
        assert after[name] <= (beta or before[name]) * 1.0001
    assert any(not torch.equal(result.classifier.get_parameter(n), source.classifier.get_parameter(n)) for n in names)
    for name, value in source.classifier.body.state_dict().items():
        if f"body.{name}" not in names:
            assert torch.equal(value, result.classifier.body.state_dict()[name]), (
                "frozen, norms and statistics included"
            )


def test_without_the_bound_these_settings_would_break_it(task: Task) -> None:
    source = make_source()
    free = transfer(source, task, NEFT.from_settings({**SETTINGS, "beta": 1e6}), run=QUIET)
    names = NEFT.from_settings(SETTINGS).layers(source.classifier)
    before, after = norms(source, names), norms(free, names)
    assert any(after[name] > before[name] * 1.001 for name in names)


def test_every_step_is_a_plain_loops(source: Checkpoint, task: Task) -> None:
    ours, plain = (source.classifier.with_head(10) for _ in range(2))
    names = NEFT(blocks=1).layers(ours)
    objective = NEFTObjective(ours, names, 0.7)
    ours.hold_batch_norm = plain.hold_batch_norm = True
    objective.train()
    plain.train()
    optimizers = [torch.optim.SGD([m.get_parameter(n) for n in names], lr=0.02, momentum=0.9) for m in (ours, plain)]
    x, y = to_pixels(task.train.images()), task.train.labels
    for step in range(6):
        some = torch.arange(step * 20, step * 20 + 20)
        with torch.no_grad():
            for name in names:
                weight = plain.get_parameter(name)
                sigma = torch.linalg.svdvals(weight.flatten(1))[0]
                weight.copy_(weight * min(1.0, float(0.7 / sigma)))
        wanted = F.cross_entropy(plain(x[some]), y[some])
        found = objective(Batch(x[some], y[some], some, some, step))["loss"]
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)
        for optimizer, loss in zip(optimizers, (found, wanted), strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for name in names:
        torch.testing.assert_close(ours.get_parameter(name), plain.get_parameter(name), rtol=1e-2, atol=1e-3)


def test_the_norm_is_that_of_the_matrix() -> None:
    weight = torch.zeros(3, 2, 1, 1)
    weight[0, 0], weight[1, 1] = 2.0, -5.0
    assert spectral_norm(weight) == pytest.approx(5.0)


def test_wrong_settings_are_refused(source: Checkpoint, task: Task) -> None:
    for wrong in ({"blocks": 0}, {"beta": 0.0}):
        with pytest.raises(ConfigError):
            NEFT.from_settings(wrong)
    with pytest.raises(ConfigError, match="too many"):
        transfer(source, task, dataclasses.replace(NEFT(), blocks=99), run=QUIET)
