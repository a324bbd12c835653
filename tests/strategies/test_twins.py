"""TWINS against two plain networks: what each half of a batch passes through, and which statistics move."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import QUIET, batch_of, gradients_differ, make_classifier, make_source, pgd_examples
from torch import nn

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier, NetworkSpec
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.run import Run
from robust_transfer.strategies import Twins, transfer
from robust_transfer.strategies.twins import TwinsObjective, batch_norms
from robust_transfer.threat import Threat

THREAT = Threat.parse("linf:8/255")
EXACT = Run(precision="float32", quiet=True, device="cpu")


def objective_on(classifier: Classifier, weight: float = 0.3) -> TwinsObjective:
    return TwinsObjective(classifier, THREAT, EXACT, steps=2, step=0.25, frozen_weight=weight)


def is_statistic(name: str) -> bool:
    return name.endswith(("running_mean", "running_var"))


def test_every_step_is_that_of_two_plain_networks(task: Task) -> None:
    """One in evaluation mode with the source's statistics, one in training mode, with the same weights."""
    ours = make_classifier().train()
    with torch.no_grad():
        for name, values in ours.named_buffers():
            if is_statistic(name):
                values.add_(0.3 * torch.rand_like(values))  # statistics worth freezing
    source, plain, objective = ours.copy(), ours.copy().train(), objective_on(ours)
    optimizers = [torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9) for network in (ours, plain)]
    for step in range(4):
        batch = batch_of(task, step, size=21)  # of which 10 are the frozen twin's
        x, y = pgd_examples(plain, batch, THREAT.eps, 2), batch.labels
        out = objective.train()(batch)
        frozen = plain.copy().eval()
        kept = {name: values for name, values in source.named_buffers() if is_statistic(name)}
        frozen.load_state_dict({**frozen.state_dict(), **kept})
        loss = 0.3 * F.cross_entropy(frozen(x[:10]), y[:10])
        adaptive = F.cross_entropy(plain(x[10:]), y[10:])
        torch.testing.assert_close(out["loss"], loss + adaptive, rtol=2e-3, atol=1e-4)
        assert len(out["logits"]) == 21
        for optimizer in optimizers:
            optimizer.zero_grad()
        out["loss"].backward()
        loss.backward()
        adaptive.backward()
        for mine, other in zip(plain.parameters(), frozen.parameters(), strict=True):
            assert mine.grad is not None
            assert other.grad is not None
            mine.grad += other.grad
        assert gradients_differ(ours, plain) < 0.02
        for optimizer in optimizers:
            optimizer.step()
        for (name, found), (_, wanted) in zip(ours.named_buffers(), plain.named_buffers(), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4, msg=name)
    assert all(module.training for module in ours.modules())


def test_without_weight_the_frozen_twin_teaches_nothing(task: Task) -> None:
    batch = batch_of(task, 0)
    alone, both = (objective_on(make_classifier().train(), weight)(batch) for weight in (0.0, 1.0))
    torch.testing.assert_close(alone["loss"], both["adaptive_loss"])
    torch.testing.assert_close(both["loss"], both["adaptive_loss"] + both["frozen_loss"])


def test_each_half_heeds_its_images_weights(task: Task) -> None:
    batch = batch_of(task, 0)
    heavy = dataclasses.replace(batch, weights=torch.tensor([2.0] * 10 + [3.0] * 10))
    plain, weighed = (objective_on(make_classifier().train())(given) for given in (batch, heavy))
    torch.testing.assert_close(weighed["frozen_loss"], 2 * plain["frozen_loss"])
    torch.testing.assert_close(weighed["adaptive_loss"], 3 * plain["adaptive_loss"])


def test_one_image_is_the_adaptive_twins(task: Task) -> None:
    out = objective_on(make_classifier().train())(batch_of(task, 0, size=1))
    assert torch.isfinite(out["loss"])
    assert "frozen_loss" not in out


def test_what_has_no_twin_is_refused(task: Task) -> None:
    with pytest.raises(ConfigError, match="leave out batch_norm=eval"):
        Twins(batch_norm="eval")
    wrong: dict[str, Any] = {"frozen_weight": -1.0}
    with pytest.raises(ConfigError, match="must not be negative"):
        Twins(**wrong)
    made = make_source(threat="linf:8/255")
    bare = make_classifier()
    for path in batch_norms(bare):
        parent, _, name = path.rpartition(".")
        setattr(bare.get_submodule(parent), name, nn.Identity())
    assert isinstance(bare.spec, NetworkSpec)
    with pytest.raises(ConfigError, match="the source has none: use adversarial"):
        transfer(Checkpoint(bare, made.card), task, Twins(), run=QUIET)
