"""L2-SP: every step against a plain loop, and the pull of its strength."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers import QUIET, make_source

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.data import Task, to_pixels
from robust_transfer.errors import ConfigError
from robust_transfer.strategies import L2SP, transfer
from robust_transfer.strategies.l2_sp import L2SPObjective
from robust_transfer.training import Batch


def test_every_step_is_a_plain_loops(source: Checkpoint, task: Task) -> None:
    ours, plain = source.classifier.with_head(10), source.classifier.with_head(10)
    origin = {name: value.detach().clone() for name, value in plain.body.named_parameters()}
    objective = L2SPObjective(ours, 0.3)
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.05, momentum=0.9) for m in (ours, plain)]
    x, y, rows = to_pixels(task.train.images()), task.train.labels, torch.arange(125)
    for step in range(5):
        some = rows[step * 25 : step * 25 + 25]
        found = objective(Batch(x[some], y[some], some, some, step))
        moved = sum((value - origin[name]).pow(2).sum() for name, value in plain.body.named_parameters())
        assert isinstance(moved, torch.Tensor)
        wanted = F.cross_entropy(plain(x[some]), y[some]) + 0.15 * moved
        torch.testing.assert_close(found["loss"], wanted)
        assert float(found["distance"]) == pytest.approx(float(moved.detach()) ** 0.5)
        for optimizer, loss in zip(optimizers, (found["loss"], wanted), strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_the_stronger_the_pull_the_nearer_to_the_source(task: Task) -> None:
    source = make_source()
    moved = []
    for strength in (0.0, 10.0, 100.0):
        strategy = L2SP(strength=strength, epochs=6, batch_size=16, head="new", l2=0.1)
        state = transfer(source, task, strategy, run=QUIET).classifier.body.state_dict()
        before = source.classifier.body.state_dict()
        moved.append(sum(float((state[n] - v).square().sum()) for n, v in before.items() if v.is_floating_point()))
    assert moved[0] > 1.5 * moved[1] > 2 * moved[2] > 0


def test_a_negative_strength_is_refused() -> None:
    with pytest.raises(ConfigError, match="strength"):
        L2SP(strength=-1.0)
