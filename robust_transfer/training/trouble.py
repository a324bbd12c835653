"""Trouble in training: a loss, predictions or numbers after which a step does not count."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from robust_transfer.training.finite import bits, first_not_finite
from robust_transfer.training.objective import Batch, Objective, one_class
from robust_transfer.training.state import Progress

MAX_LOSS_RATIO = 20.0  # times the loss of the first step (or of a uniform guess, if that is larger)
UNTRAINED_BATCHES = 400  # batches that a network may take to predict more than one class for the first time


@dataclass(frozen=True)
class Trouble:
    """Reason to return to an earlier state; a ``divergence`` halves the rate, the objective reacts to others.

    ``numeric``: numbers that are not finite, or a loss that exploded; ``bits`` is then the hash of the tensor in question.
    """

    what: str
    divergence: bool = True
    numeric: bool = False
    bits: str = ""


def numberless(what: str, *named: tuple[str, Tensor]) -> Trouble | None:
    """Trouble if one of the ``named`` tensors has an entry that is NaN or infinite; ``what``: a sentence with its name."""
    found = first_not_finite(named)
    return Trouble(what.format(found[0]), numeric=True, bits=bits(found[1])) if found is not None else None


def in_results(out: dict[str, Tensor], batch: Batch, objective: Objective, progress: Progress) -> Trouble | None:
    """Trouble in the loss or the predictions of a batch; ``progress`` counts the batches predicted as one class."""
    loss, logits = out["loss"].float(), out["logits"]
    collapsed = one_class(logits, batch.labels)
    progress.one_class = progress.one_class + 1 if collapsed else 0
    progress.several |= not collapsed
    found = numberless("the {} not a number", ("loss is", loss), ("logits hold what is", logits))
    if found is not None:
        return found
    first = progress.first_loss if progress.first_loss is not None else math.inf
    heavy = float(batch.weights.mean()) if batch.weights is not None else 1.0  # an image of a rare class among others
    if bool(loss > MAX_LOSS_RATIO * max(1.0, heavy) * max(math.log(objective.classifier.num_classes), first)):
        return Trouble(f"the loss exploded ({float(loss):.3g})", numeric=True, bits=bits(loss))
    # A new head may begin by predicting one class; collapse is to come back to it.
    patience = objective.collapse_patience if progress.several else UNTRAINED_BATCHES
    if progress.one_class >= max(patience, objective.collapse_patience):
        return Trouble("all predictions are one class")
    return None
