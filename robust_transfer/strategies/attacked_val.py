"""Images of val under PGD-10 against a network: what strategies ask about robustness before they choose weights."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from robust_transfer.attacks import PGD
from robust_transfer.classifier import Classifier
from robust_transfer.cost import Cost
from robust_transfer.data import Task, to_pixels
from robust_transfer.engine import Engine
from robust_transfer.run import Run
from robust_transfer.threat import Threat

STEPS, BATCH = 10, 100  # of PGD, and images in a pass


@dataclass(frozen=True)
class AttackedBatch:
    """Images ``(B, 3, H, W)`` in [0, 1], the same under attack, labels ``(B,)``, and what attacking them has cost."""

    clean: Tensor
    adversarial: Tensor
    labels: Tensor
    cost: Cost


def attacked_val(
    classifier: Classifier, task: Task, threat: Threat, run: Run, *, examples: int, purpose: str
) -> list[AttackedBatch]:
    """Sample of ``examples`` val images, drawn for ``purpose``, attacked on ``classifier``, which is on the run's device."""
    sample = task.val.sample(examples, seed=run.seed, purpose=purpose)
    device, engine, found = run.torch_device(), Engine(run.dtype()), list[AttackedBatch]()
    for images, labels, ids in sample.batches(BATCH):
        x, labels, ids = to_pixels(images, device), labels.to(device), ids.to(device)
        result = PGD(steps=STEPS)(classifier, x, labels, ids, threat, seed=run.seed, engine=engine)
        cost = Cost(passes=result.passes, adversarial_examples=len(x))
        found.append(AttackedBatch(x, result.adversarial, labels, cost))
    return found
