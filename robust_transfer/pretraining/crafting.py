"""Base of the objectives that craft adversarial images: within which threat, at any moment of training."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from robust_transfer.classifier import Classifier
from robust_transfer.threat import Threat
from robust_transfer.training import Batch, EpsSchedule, Objective

ONE_CLASS_BATCHES = 400  # training from scratch begins with one-class batches; only a lasting collapse is one


class CraftingObjective(Objective):
    """Objective on images crafted within ``threat``, whose eps follows ``schedule``; it is logged where it varies."""

    def __init__(self, classifier: Classifier, threat: Threat) -> None:
        super().__init__(classifier)
        self.threat, self.schedule = threat, EpsSchedule()
        self.collapse_patience = ONE_CLASS_BATCHES

    def threat_at(self, batch: Batch) -> Threat:
        """Threat that a batch's images are crafted within."""
        return self.schedule.at(self.threat, batch.done)

    @override
    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        out = super().__call__(batch)
        return {**out, "eps": torch.tensor(self.threat_at(batch).eps)} if self.schedule.active else out
