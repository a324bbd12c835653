"""Natural training: the control that every robust source is compared with."""

from __future__ import annotations

from typing import Any, ClassVar

from typing_extensions import override

from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.data import Task
from robust_transfer.pretraining.base import PRETRAINING, Pretraining
from robust_transfer.pretraining.crafting import ONE_CLASS_BATCHES
from robust_transfer.run import Run
from robust_transfer.threat import Threat
from robust_transfer.training import NaturalObjective, Objective


@PRETRAINING.register(
    "natural", summary="cross-entropy on natural images", paper="Shafahi et al. 2020, section 4 (control)"
)
@config
class Natural(Pretraining):
    """Plain training; not robust to anything. ``preset=paper``: as the transfer paper's natural sources."""

    weighs: ClassVar[bool] = True
    adversarial: ClassVar[bool] = False
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"epochs": 120.0, "learning_rate": 0.1, "schedule": "step"}
    }

    @override
    def objective(self, classifier: Classifier, task: Task, threat: Threat, run: Run) -> Objective:
        return NaturalObjective(classifier, collapse_patience=ONE_CLASS_BATCHES)
