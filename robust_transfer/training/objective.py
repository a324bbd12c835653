"""Objective: owns the classifier (and a teacher, if any) and computes the loss of a batch for ``fit``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from robust_transfer.classifier import Classifier


@dataclass(frozen=True)
class Batch:
    """One (local) minibatch: float images in [0, 1], labels, example ids, and positions in the training split.

    ``images`` is ``(B, 0)`` for an objective that does not read them. ``slots``: positions in the whole minibatch, of
    which a process has a share (None: it has all of it). ``weights`` float32 ``(B,)``: how many times each image
    counts; their mean is 1 over the training images, not over a batch. ``done``: share of training's steps before this one.
    """

    images: Tensor
    labels: Tensor
    ids: Tensor
    indices: Tensor
    step: int
    slots: Tensor | None = None
    weights: Tensor | None = None
    done: float = 0.0

    def mean(self, values: Tensor) -> Tensor:
        """Mean of ``values (B,)``, one an image, each counting as often as its image."""
        return values.mean() if self.weights is None else (self.weights * values).mean()

    def cross_entropy(self, logits: Tensor) -> Tensor:
        """Mean cross-entropy of ``logits (B, K)``, a scalar."""
        if self.weights is None:
            return F.cross_entropy(logits, self.labels)
        return self.mean(F.cross_entropy(logits, self.labels, reduction="none"))


class CachedRows:
    """Rows computed once, looked up by a batch's positions.

    Not a buffer: processes would send all of them to each other at every step.
    """

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def __call__(self, batch: Batch) -> Tensor:
        """Rows of a batch, on its device."""
        self.rows = self.rows.to(batch.indices.device)
        return self.rows[batch.indices]


class HeadPenalty(nn.Module):
    """``l2 / 2 * |W diag(deviations)|^2`` of a linear head's weights ``W (K, d)``: a linear probe's own penalty.

    ``deviations`` ``(d,)`` are those of the features that the probe was solved on, which it standardises.
    """

    deviations: Tensor

    def __init__(self, l2: float, deviations: Tensor) -> None:
        super().__init__()
        self.l2 = l2
        self.register_buffer("deviations", deviations)

    def forward(self, head: nn.Module) -> Tensor:
        """Penalty, a scalar."""
        assert isinstance(head, nn.Linear)  # it is the probe's
        return self.l2 / 2 * (head.weight * self.deviations).square().sum()


class Objective(nn.Module, ABC):
    """``forward(batch)`` returns ``{"loss": scalar, "logits": (B, K), ...}``; further scalars are logged.

    All forward passes of a step happen inside ``forward``, because that is what accelerate wraps: calling the
    classifier beside it would leave gradients unsynchronised across processes. Means over images are the batch's own
    (:meth:`Batch.mean`), which knows their weights. ``passes_per_image`` is the cost of a
    step in forward-equivalent image passes (forward 1, backward 2, an input gradient alone 1).
    ``head_penalty``, if there is one, is added to the loss, in place of the optimiser's weight decay on the head.
    """

    passes_per_image: float = 3.0
    collapse_patience: int = 1  # successive one-class batches before training is called collapsed
    max_reactions: int = 0  # how often the guard may send training back
    needs_images: bool = True  # where not, none are read
    replays: int = 1  # successive steps on one minibatch, augmented once; training is not longer for it
    total_steps: int = 1  # of the whole training, which ``fit`` tells
    spent: float = 0.0  # passes that the guard has taken and that are not in the books yet: fit collects them

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier
        self.head_penalty: HeadPenalty | None = None

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """``forward``, with the head's penalty on top: still within the module that accelerate wraps."""
        out: dict[str, Tensor] = super().__call__(batch)
        if self.head_penalty is None:
            return out
        penalty = self.head_penalty(self.classifier.head)
        return {**out, "loss": out["loss"] + penalty, "head_penalty": penalty}

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Loss of one batch."""

    def undecayed(self) -> list[nn.Parameter]:
        """Parameters exempt from weight decay: those whose penalty is in the loss."""
        return list(self.classifier.head.parameters()) if self.head_penalty is not None else []

    def after_backward(self, gather: Callable[[Tensor], Tensor]) -> None:
        """Use the results of the backward pass, before the optimiser's step.

        ``gather`` puts the rows of all processes' shares of a minibatch ``(B, ...)`` together, in the minibatch's
        order.
        """

    def guard(self) -> tuple[str | None, dict[str, float]]:
        """Look for silent failure every ``guard_every`` steps: ``(failure or None, figures for the log)``.

        Runs on every process, and the main one's verdict holds. After a failure, ``fit`` restores the last good state
        and calls :meth:`react`, once for each failure so far that the restored state does not know of.
        """
        return None, {}

    def react(self) -> str:
        """Change the cause of the guard's objection, and describe the change in a few words."""
        raise RuntimeError("this objective has no guard")


class NaturalObjective(Objective):
    """Mean cross-entropy on natural images."""

    def __init__(self, classifier: Classifier, collapse_patience: int = 1) -> None:
        super().__init__(classifier)
        self.collapse_patience = collapse_patience

    @override
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.classifier(batch.images)
        return {"loss": batch.cross_entropy(logits), "logits": logits}


def one_class(logits: Tensor, labels: Tensor) -> bool:
    """True if a batch of several classes (8 images or more) is all predicted as one class."""
    if len(labels) < 8 or bool((labels == labels[0]).all()):
        return False
    predicted = logits.argmax(1)
    return bool((predicted == predicted[0]).all())


def is_finite(loss: Tensor) -> bool:
    """True if a loss is finite."""
    return bool(torch.isfinite(loss).all())
