"""Images of val under PGD-10 against a network: what strategies ask about robustness before they choose weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from robust_transfer.attacks import PGD
from robust_transfer.classifier import Classifier
from robust_transfer.cost import Cost
from robust_transfer.data import Task
from robust_transfer.engine import Engine
from robust_transfer.run import Run
from robust_transfer.threat import Threat

STEPS, BATCH = 10, 100  # of PGD, and images in a pass


@dataclass(frozen=True)
class AttackedBatch:
    """Images ``(B, 3, H, W)`` in [0, 1], the same under attack, labels and weights ``(B,)``; what attacking them has cost.

    An image that is wrong when clean is its own adversarial image: it is not crafted, and not counted as such.
    """

    clean: Tensor
    adversarial: Tensor
    labels: Tensor
    weights: Tensor
    cost: Cost

    def cross_entropy(self, logits: Tensor) -> Tensor:
        """Cross-entropy of ``logits (B, K)``, summed over the images, each counting as often as its weight says."""
        return (self.weights * F.cross_entropy(logits, self.labels, reduction="none")).sum()


def attacked_val(
    classifier: Classifier, task: Task, threat: Threat, run: Run, *, examples: int, purpose: str
) -> list[AttackedBatch]:
    """Sample of ``examples`` val images, drawn for ``purpose``, attacked on ``classifier``, which is on the run's device."""
    sample = task.val.sample(examples, seed=run.seed, purpose=purpose)
    device, engine, found = run.torch_device(), Engine(run.dtype()), list[AttackedBatch]()
    for rows in torch.split(torch.arange(len(sample)), BATCH):
        some = sample.subset(rows)
        x, labels, ids = some.on(device)
        result = PGD(steps=STEPS)(classifier, x, labels, ids, threat, seed=run.seed, engine=engine)
        cost = Cost(passes=result.passes, adversarial_examples=result.crafted(labels))
        weights = some.weights if some.weights is not None else torch.ones(len(x))
        found.append(AttackedBatch(x, result.adversarial, labels, weights.float().to(device), cost))
    return found
