"""Distances to the boundaries of classes, to the first order: the margin to a class over the dual norm of its gradient.

One step of DeepFool (Moosavi-Dezfooli et al. 2016, section 2.3), for each class on its own. Exact where the margin is linear
and the box [0, 1] not in the way; elsewhere an estimate that errs to either side.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robust_transfer import losses
from robust_transfer.attacks.victim import Victim
from robust_transfer.threat import Threat


def nearest_by_logit(logits: Tensor, labels: Tensor, count: int) -> Tensor:
    """The ``count`` classes with the largest logits beside the label's (all where there are fewer), ``(B, T)``."""
    _, others = losses.own_and_others(logits, labels)
    return others.topk(min(count, others.shape[1] - 1), dim=1).indices


def boundary_distances(target: Victim, x: Tensor, labels: Tensor, classes: Tensor, threat: Threat) -> Tensor:
    """Distance in the threat's norm to the boundary of each of ``classes`` ``(B, T)``, at one gradient per class.

    Negative where the class is ahead of the label already; infinite towards a class that no gradient leads to.
    """
    distances = []
    for one in classes.unbind(1):
        aim = torch.stack([labels, one], 1)
        logits, gradient = target.gradient(x, aim, losses.targeted_margin)
        slope = threat.slope(gradient)
        distance = -losses.targeted_margin(logits, aim) / slope
        distances += [torch.where(slope > 0, distance, torch.inf)]
    return torch.stack(distances, 1)
