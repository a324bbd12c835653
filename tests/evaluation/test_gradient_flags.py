"""Checks of the gradient: red on gradients that lie, and silent on those of honest networks."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from attack_helpers import L2, LINF, Batch, Function, first
from torch import Tensor, nn

from robust_transfer.attacks import PGD
from robust_transfer.attacks.victim import attacking
from robust_transfer.evaluation.adversary import Adversary
from robust_transfer.evaluation.flag_sample import PLAIN, Sample
from robust_transfer.evaluation.gradient_flags import (
    answers_change_with_gradients,
    no_gradient,
    no_slope,
    random_gradient,
)
from robust_transfer.threat import Threat


class Lying(torch.autograd.Function):
    """Identity with a gradient of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, change: Any) -> Tensor:
        ctx.change = change
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.change(gradients[0]), None


def lying(network: nn.Module, change: Any) -> nn.Module:
    return Function(lambda x: network(Lying.apply(x, change)))


def checked(model: nn.Module, batch: Batch, check: Any, threat: Threat = LINF) -> str | None:
    x, _, ids = first(batch, 12)
    with attacking(model, x.device, PLAIN, size=8) as target:
        logits = target.logits(x)
        none = torch.zeros(len(x), dtype=torch.bool)
        adversary = Adversary((PGD(steps=2),), threat)
        return cast("str | None", check(Sample(target, x, logits.argmax(1), ids, logits, adversary, none, none)))


@pytest.mark.parametrize("threat", [LINF, L2, Threat(norm="linf", eps=2 / 255), Threat(norm="l2", eps=0.1)], ids=str)
@pytest.mark.parametrize("check", [answers_change_with_gradients, random_gradient, no_gradient, no_slope])
def test_an_honest_network_is_silent(check: Any, threat: Threat, network: nn.Module, batch: Batch) -> None:
    assert checked(network, batch, check, threat) is None


@pytest.mark.parametrize("threat", [LINF, L2], ids=str)
@pytest.mark.parametrize(
    "change",
    [lambda g: -g, lambda g: g.flip(1, 2), lambda g: 30 * g, lambda g: g / 30],
    ids=["-", "flip", "30", "1/30"],
)
def test_a_gradient_that_is_no_slope(change: Any, threat: Threat, network: nn.Module, batch: Batch) -> None:
    assert "do not change the logits as it says" in str(checked(lying(network, change), batch, no_slope, threat))


def test_a_network_of_few_bits_has_slopes_all_the_same(network: nn.Module, batch: Batch) -> None:
    """Logits in bfloat16 say nothing of the small step; the large one decides."""
    coarse = Function(lambda x: network(x).bfloat16().float())
    assert checked(coarse, batch, no_slope) is None


def test_a_gradient_that_draws(network: nn.Module, batch: Batch) -> None:
    assert "random on 12 of 12" in str(checked(lying(network, torch.randn_like), batch, random_gradient))


def test_other_answers_where_a_gradient_is_asked_for(network: nn.Module, batch: Batch) -> None:
    model = Function(lambda x: network(x).flip(1) if torch.is_grad_enabled() else network(x))
    assert "12 of 12" in str(checked(model, batch, answers_change_with_gradients))


def test_a_gradient_that_vanishes_beside_the_image_only(network: nn.Module, batch: Batch) -> None:
    """A memory of the clean images: the gradient is there at each of them, and nowhere else."""
    known = first(batch, 12)[0]

    def forward(x: Tensor) -> Tensor:
        far = torch.cdist(x.flatten(1), known.flatten(1)).amin(1) > 1e-3
        logits: Tensor = network(x)
        return torch.where(far[:, None], logits.detach(), logits)

    assert "12 of 12" in str(checked(Function(forward), batch, no_gradient))
