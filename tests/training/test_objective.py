"""Objectives with weighted images: every one of ours sees an image of weight 2 as it sees two of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from helpers import QUIET, make_classifier, make_digits
from torch import Tensor

from robust_transfer.classifier import Classifier
from robust_transfer.data import to_pixels
from robust_transfer.pretraining.cartl import CARTLObjective, cut_of
from robust_transfer.pretraining.free import FreeObjective
from robust_transfer.pretraining.objective import AdversarialObjective
from robust_transfer.pretraining.trades import TradesObjective
from robust_transfer.strategies import features_of
from robust_transfer.strategies.lwf_objective import LwFObjective
from robust_transfer.strategies.mlp_head import HeadObjective
from robust_transfer.threat import Threat
from robust_transfer.training import Batch, NaturalObjective, Objective

THREAT = Threat.parse("linf:8/255")
SPLIT = make_digits(train=12, val=1, test=1).train
TIMES = torch.tensor([1, 0, 3, 1, 2, 1, 0, 4, 1, 1, 1, 3])


def features(classifier: Classifier) -> Tensor:
    """Features of another network, to be held on to."""
    return features_of(make_classifier(seed=5), SPLIT, QUIET)


MADE: dict[str, Callable[[Classifier], Objective]] = {
    "natural": NaturalObjective,
    "lwf": lambda c: LwFObjective(c, weight=0.3, distance="l2", features=features(c)),
    "lwf live": lambda c: LwFObjective(c, weight=0.3, distance="l1", teacher=make_classifier(seed=5)),
    "mlp-head": lambda c: HeadObjective(c, features(c), 1),
    "pgd-at": lambda c: AdversarialObjective(c, THREAT, QUIET, steps=2, step=0.5),
    "trades": lambda c: TradesObjective(c, THREAT, QUIET, beta=4, steps=1, step=0.5),
    "pgd-at, awp": lambda c: AdversarialObjective(c, THREAT, QUIET, steps=1, step=0.5, awp=0.01),
    "cartl": lambda c: CARTLObjective(c, THREAT, QUIET, steps=1, step=0.5, weight=0.5, cut=cut_of(c, 2)),
    "free": lambda c: FreeObjective(c, THREAT, replays=2, step=1.0, slots=40),
}


def loss_and_gradient(name: str, rows: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Of a batch of the images at ``rows``, in evaluation mode: batch norm's statistics have no weights."""
    objective = MADE[name](make_classifier()).eval()
    batch = Batch(to_pixels(SPLIT.fetch(rows)), SPLIT.labels[rows], SPLIT.ids[rows], rows, 0, None, weights)
    loss = objective(batch)["loss"]
    loss.backward()
    [last] = [p.grad for n, p in objective.classifier.named_parameters() if n == "head.weight"]
    assert last is not None
    return loss.detach(), last


@pytest.mark.parametrize("name", MADE)
def test_a_weight_counts_as_so_many_images(name: str) -> None:
    everything = torch.arange(len(SPLIT))
    found = loss_and_gradient(name, everything, TIMES.float() * len(TIMES) / TIMES.sum())
    wanted = loss_and_gradient(name, everything.repeat_interleave(TIMES), None)
    plain = loss_and_gradient(name, everything, None)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=1e-5)
    assert abs(plain[0] - wanted[0]) > 1e-3  # weights that do nothing would be seen


def test_equal_weights_change_nothing() -> None:
    everything = torch.arange(len(SPLIT))
    ones = loss_and_gradient("lwf", everything, torch.ones(len(SPLIT)))
    for ours, theirs in zip(ones, loss_and_gradient("lwf", everything, None), strict=True):
        torch.testing.assert_close(ours, theirs)
