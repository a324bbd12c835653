"""Distances to the boundaries of classes, on linear models, where they are known."""

from __future__ import annotations

import pytest
import torch
from attack_helpers import LINF, Function, Linear, constant
from torch import Tensor

from robust_transfer.attacks.nearest import boundary_distances, nearest_by_logit
from robust_transfer.attacks.victim import attacking
from robust_transfer.threat import Threat


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_distance_of_a_linear_model_is_the_margin_over_the_dual_norm(norm: str) -> None:
    draws = torch.Generator().manual_seed(2)
    weight, bias = torch.randn(7, 48, generator=draws), torch.randn(7, generator=draws)
    model, x = Linear(weight, bias), torch.rand(20, 3, 4, 4, generator=draws)
    with torch.no_grad():
        logits = model(x)
    labels = logits.argmax(1)
    order = logits.scatter(1, labels[:, None], -torch.inf).argsort(dim=1, descending=True)[:, :4]
    with attacking(model, x.device) as target:
        classes = nearest_by_logit(logits, labels, 4)
        found = boundary_distances(target, x, labels, classes, Threat(norm=norm, eps=0.1))
    assert torch.equal(classes, order)
    apart = weight[labels][:, None] - weight[classes]
    gap = logits.gather(1, labels[:, None]) - logits.gather(1, classes)
    slope = apart.abs().sum(2) if norm == "linf" else apart.square().sum(2).sqrt()
    torch.testing.assert_close(found, gap / slope, rtol=1e-5, atol=0)
    direction = -apart.sign() if norm == "linf" else -apart / slope[..., None]
    for rank in range(4):  # a step of that length ends on the boundary
        there = x + (found[:, rank, None] * direction[:, rank]).view_as(x)
        with torch.no_grad():
            moved = model(there)
        torch.testing.assert_close(
            moved.gather(1, labels[:, None]), moved.gather(1, classes[:, rank, None]), rtol=0, atol=1e-4
        )


def test_a_class_that_is_ahead_is_at_a_negative_distance_and_one_that_nothing_leads_to_nowhere() -> None:
    def flat(x: Tensor) -> Tensor:
        moving = x.flatten(1)[:, :1]
        return torch.cat([0 * moving, 0 * moving - 0.001, moving - 2.0, moving + 1.0, 0 * moving], 1)

    x, labels, _ = constant(3)
    with attacking(Function(flat), x.device) as target:
        found = boundary_distances(target, x, labels, torch.tensor([[1, 2, 3, 4]] * 3), LINF)
    value = float(x.flatten(1)[0, 0])
    torch.testing.assert_close(found, torch.tensor([[torch.inf, 2.0 - value, -1.0 - value, torch.inf]] * 3))


def test_there_are_no_more_classes_than_there_are() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [5.0, 4.0, 4.5]])
    assert nearest_by_logit(logits, torch.tensor([1, 1]), 9).tolist() == [[2, 0], [0, 2]]
