"""RSLAD against its formula in plain PyTorch: what it crafts, and what it minimises."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers import batch_of, gradients_differ, make_classifier
from torch import Tensor, nn

from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.randomness import Address, normal
from robust_transfer.run import Run
from robust_transfer.strategies import RSLAD
from robust_transfer.strategies.rslad import RSLADObjective
from robust_transfer.threat import Threat
from robust_transfer.training import Batch

THREAT = Threat.parse("linf:8/255")
EXACT = Run(precision="float32", quiet=True, device="cpu")


def divergence(logits: Tensor, p: Tensor) -> Tensor:
    """``KL(p || q)`` per example, spelt out."""
    return (p * (p.log() - logits.softmax(1).log())).sum(1)


def crafted(network: nn.Module, batch: Batch, p: Tensor) -> Tensor:
    """Spelt out: from 0.001 of noise, two signed steps up the divergence from the teacher's answers."""
    plain, x = copy.deepcopy(network).eval(), batch.images
    current = (x + 0.001 * normal(Address(0, "trades", step=batch.step), batch.ids, (3, 8, 8))).clamp(0, 1)
    for _ in range(2):
        current = current.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(divergence(plain(current), p).sum(), current)
        moved = current + 0.25 * THREAT.eps * gradient.sign()
        current = (x + (moved - x).clamp(-THREAT.eps, THREAT.eps)).clamp(0, 1)
    return current.detach()


def test_every_step_is_its_formula(task: Task) -> None:
    ours, teacher = make_classifier().train(), make_classifier(seed=3).eval()
    with torch.no_grad():
        teacher.get_parameter("head.weight").mul_(20)
    plain = ours.copy().train()
    objective = RSLADObjective(ours, teacher.copy(), THREAT, EXACT, steps=2, step=0.25, alpha=0.75)
    optimizers = [torch.optim.SGD(network.parameters(), lr=0.05) for network in (ours, plain)]
    for step in range(3):
        batch = batch_of(task, step)
        p = teacher(batch.images).detach().softmax(1)
        x = crafted(plain, batch, p)
        out = objective.train()(batch)
        natural, robust = divergence(plain(batch.images), p).mean(), divergence(plain(x), p).mean()
        loss = 0.75 * robust + 0.25 * natural
        torch.testing.assert_close(out["loss"], loss, rtol=5e-3, atol=1e-4)
        torch.testing.assert_close(out["natural_divergence"], natural, rtol=5e-3, atol=1e-4)
        for optimizer, value in zip(optimizers, (out["loss"], loss), strict=True):
            optimizer.zero_grad()
            value.backward()
        assert gradients_differ(ours, plain) < 0.03
        for optimizer in optimizers:
            optimizer.step()
    assert objective.passes_per_image == 7 + 2 * 2


def test_a_student_that_begins_as_its_teacher_is_attacked_all_the_same(task: Task) -> None:
    """At the clean image the divergence is 0 and has no slope; the noise leads away from there."""
    student, batch = make_classifier().eval(), batch_of(task, 0)
    objective = RSLADObjective(student, student.copy(), THREAT, EXACT, steps=4, step=0.25, alpha=0.5)
    out = objective(batch)
    assert float(out["natural_divergence"].detach()) == pytest.approx(0, abs=1e-6)
    chance = THREAT.random_start(batch.images, batch.ids, seed=0, purpose="test")
    by_chance = divergence(student(chance), student(batch.images).softmax(1)).mean()
    assert float(out["robust_divergence"].detach()) > 1.5 * float(by_chance.detach())


def test_the_papers_share_and_shares_that_are_none() -> None:
    assert RSLAD().alpha == pytest.approx(5 / 6)
    for alpha in (-0.1, 1.1):
        with pytest.raises(ConfigError, match="share from 0 to 1"):
            RSLAD(alpha=alpha)
