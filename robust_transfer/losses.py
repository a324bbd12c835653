"""Per-example losses: logits ``(B, K)`` and labels ``(B,)`` to ``(B,)``, in float32. Larger is worse for the model."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from robust_transfer.errors import UnknownNameError
from robust_transfer.registry import unknown

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """``-log softmax(logits)[label]``."""
    return F.cross_entropy(logits.float(), labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """``max_{k != y} logit_k - logit_y`` (Carlini & Wagner 2017): positive exactly when the example is misclassified."""
    logits = logits.float()
    own = logits.gather(1, labels[:, None])
    others = logits.masked_fill(F.one_hot(labels, logits.shape[1]).bool(), -torch.inf)
    return others.amax(1) - own.squeeze(1)


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Difference of logits ratio (Croce & Hein 2020, section 4): the margin over the gap between first and third.

    Undefined for fewer than three classes, where it is the margin. Invariant to the scale of the logits.
    """
    logits = logits.float()
    if logits.shape[1] < 3:
        return margin(logits, labels)
    top = logits.sort(dim=1, descending=True).values
    return margin(logits, labels) / (top[:, 0] - top[:, 2]).clamp_min(1e-12)


def kl(logits: Tensor, reference: Tensor) -> Tensor:
    """``KL(softmax(reference) || softmax(logits))`` per example; ``reference`` is a ``(B, K)`` tensor of logits."""
    target = F.log_softmax(reference.float(), dim=1)
    return F.kl_div(F.log_softmax(logits.float(), dim=1), target, reduction="none", log_target=True).sum(1)


LOSSES: dict[str, Loss] = {"ce": cross_entropy, "margin": margin, "dlr": dlr}


def get_loss(name: str) -> Loss:
    """The loss called ``name`` (ce, margin, dlr)."""
    if name not in LOSSES:
        raise UnknownNameError(unknown("loss", name, list(LOSSES)))
    return LOSSES[name]
