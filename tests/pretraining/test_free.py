"""Free-m against its step-by-step definition: replays, one backward pass, a perturbation that stays in its slot."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import make_classifier, same_state
from torch import Tensor

from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.pretraining import Free
from robust_transfer.pretraining.free import FreeObjective
from robust_transfer.run import Run
from robust_transfer.threat import Threat
from robust_transfer.training import Batch, TrainingSettings, batch_order, fit

RUN = Run(precision="float32", quiet=True, device="cpu")
M, SIZE = 3, 50
SETTINGS: dict[str, Any] = {"epochs": 2, "batch_size": SIZE, "learning_rate": 0.05, "augment": False}
THREATS = [Threat.parse("linf:8/255"), Threat.parse("l2:0.5")]


class Watched(FreeObjective):
    """Remembers what it is given."""

    def __init__(self, threat: Threat, m: int = M, size: int = SIZE) -> None:
        super().__init__(make_classifier(), threat, replays=m, step=1.0, slots=size)
        self.collapse_patience = 400
        self.batches: list[Batch] = []
        self.forwards = 0
        self.classifier.register_forward_hook(self.count)

    def count(self, *_: object) -> None:
        self.forwards += 1

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        self.batches.append(batch)
        return super().forward(batch)


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_it_is_its_definition_step_by_step(digits_task: Task, threat: Threat) -> None:
    objective, split = Watched(threat), digits_task.train
    plain = objective.classifier.copy().train()
    result = fit(objective, split, TrainingSettings(**{**SETTINGS, "epochs": 1}), RUN)

    images, steps = split.images(), len(split) // SIZE
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    delta = torch.zeros(SIZE, 3, 8, 8)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.05 * 0.5 * (1 + math.cos(math.pi * step / steps))
        place = step // M  # which minibatch
        epoch, number = divmod(place, len(split) // SIZE)
        picked = batch_order(0, epoch, len(split))[number * SIZE :][:SIZE]
        noise = delta.clone().requires_grad_(True)
        optimizer.zero_grad()
        loss = F.cross_entropy(plain((images[picked].float() / 255 + noise).clamp(0, 1)), split.labels[picked])
        loss.backward()  # the one backward pass
        assert noise.grad is not None
        if threat.norm == "linf":
            delta = (delta + threat.eps * noise.grad.sign()).clamp(-threat.eps, threat.eps)
        else:
            delta = delta + threat.eps * F.normalize(noise.grad.flatten(1)).view_as(delta)
            length = delta.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            delta = delta * (threat.eps / length).clamp(max=1)
        optimizer.step()

    torch.testing.assert_close(objective.delta, delta, rtol=0, atol=1e-5)
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(result.classifier.state_dict()[key], value, rtol=1e-4, atol=1e-5)
    assert (objective.forwards, result.images, result.passes) == (steps, steps * SIZE, 3.0 * steps * SIZE)


def test_a_minibatch_is_replayed_as_it_was_augmented_once(digits_task: Task) -> None:
    objective = Watched(THREATS[0])
    fit(objective, digits_task.train, TrainingSettings(**{**SETTINGS, "augment": True}), RUN)
    seen = objective.batches
    assert [batch.step for batch in seen] == list(range(12))
    for first in range(0, 12, M):
        for batch in seen[first + 1 : first + M]:
            assert torch.equal(batch.images, seen[first].images)
            assert torch.equal(batch.indices, seen[first].indices)
    picked = [set(seen[first].indices.tolist()) for first in range(0, 12, M)]
    assert not any(a & b for a, b in pairwise(picked)), "another minibatch, of the same pass"


def test_the_data_is_seen_so_many_times_less(digits_task: Task) -> None:
    often, seldom = Watched(THREATS[0], 1), Watched(THREATS[0], 6)
    for objective in (often, seldom):
        fit(objective, digits_task.train, TrainingSettings(**SETTINGS), RUN)
    images = [len({i for b in o.batches for i in b.indices.tolist()}) for o in (often, seldom)]
    assert len(often.batches) == len(seldom.batches) == 12
    assert images[0] >= 300, "two epochs"
    assert images[1] == 2 * SIZE, "a third of one"


def test_a_perturbation_stays_in_its_slot_and_in_the_ball(digits_task: Task) -> None:
    """A step of a minibatch moves every slot's perturbation from where the minibatch before left it."""
    objective = Watched(THREATS[0])
    starts: list[Tensor] = []
    real = objective.classifier.forward

    def watched(x: Tensor) -> Tensor:
        starts.append(objective._own.detach().clone())
        return real(x)

    objective.classifier.forward = watched  # type: ignore[method-assign]
    fit(objective, digits_task.train, TrainingSettings(**SETTINGS), RUN)
    assert not starts[0].any()
    assert starts[1].abs().amax() == pytest.approx(8 / 255)
    moved = [(after - before).abs().amax() for before, after in pairwise(starts)]
    assert all(step <= 2 * 8 / 255 + 1e-6 for step in moved)
    for before, after in pairwise(starts):  # a step of eps from where it was, then clipped
        low, high = (before - 8 / 255).clamp(-8 / 255), (before + 8 / 255).clamp(max=8 / 255)
        at = torch.minimum((after - low).abs(), (after - high).abs()).minimum((after - before).abs())
        assert at.amax() < 1e-6
    assert objective.delta.flatten(1).abs().amax() <= 8 / 255 + 1e-7


def test_its_perturbation_is_in_the_resume_state() -> None:
    assert "delta" in Watched(THREATS[0]).state_dict()


def test_settings_that_make_no_sense() -> None:
    wrong: tuple[dict[str, Any], ...] = ({"replays": 0}, {"step": 0})
    for settings in wrong:
        with pytest.raises(ConfigError, match="free needs at least one replay"):
            Free(**settings)


def test_settings_reach_the_objective(digits_task: Task) -> None:
    made = Free(replays=4, step=0.5, batch_size=1000).objective(make_classifier(), digits_task, THREATS[0], RUN)
    assert isinstance(made, FreeObjective)
    assert (made.replays, made.step, len(made.delta)) == (4, 0.5, len(digits_task.train))
    assert same_state(made.classifier, make_classifier())
