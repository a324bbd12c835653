"""Robust accuracy of a linear head, predicted from its margins on clean images.

Two predictors. By shift (Nern et al. 2023): an image stands if the nearest boundary of the head is farther from its features
than the source's features typically move under attack. By first order: an image stands if its margin over the nearest class is
more than the margin's slope at the clean image times eps. Neither is a bound: features of the target may move farther, and a
network is no linear function.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from robust_transfer.classifier import Classifier
from robust_transfer.data import Split
from robust_transfer.modes import without_weight_gradients
from robust_transfer.threat import Threat

BATCH = 100  # images whose gradients are computed together


def distances(features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Distance of each image's features from the nearest boundary of its class, ``(n,)``, and the class beyond it.

    ``min_k (z_y - z_k) / |w_y - w_k|``: negative where the head is wrong.
    """
    logits = F.linear(features.double(), weight.double(), bias.double())
    across = (weight.double()[labels][:, None] - weight.double()).norm(dim=2)
    margins = logits.gather(1, labels[:, None]) - logits
    itself = F.one_hot(labels, len(weight)).bool()
    nearest = (margins / across.clamp_min(1e-300)).masked_fill(itself, torch.inf).min(1)
    return nearest.values, nearest.indices


def standing_by_shift(distance: Tensor, shifts: Tensor) -> float:
    """Share of images that stand: over all pairs of an image of the target and a shift ``(m,)`` seen on the source's images."""
    return float((distance[:, None] > shifts.double()).double().mean())


def standing_by_first_order(
    classifier: Classifier, split: Split, rivals: Tensor, threat: Threat, device: torch.device
) -> Tensor:
    """True, ``(n,)``, where the margin over ``rivals (n,)`` is more than its slope times eps: one backward pass an image."""
    stands = list[Tensor]()
    with classifier.eval_mode(), without_weight_gradients(classifier):
        for rows in torch.arange(len(split)).split(BATCH):
            x, labels, _ = split.subset(rows).on(device)
            x.requires_grad_(True)
            logits = classifier(x)
            rival = rivals[rows].to(device)
            margin = logits.gather(1, labels[:, None])[:, 0] - logits.gather(1, rival[:, None])[:, 0]
            [gradient] = torch.autograd.grad(margin.sum(), x)
            stands.append((margin.detach() > threat.slope(gradient) * threat.eps).cpu())
    return torch.cat(stands)
