"""PGD adversarial training (Madry et al. 2018)."""

from __future__ import annotations

from typing import Any, ClassVar

from typing_extensions import override

from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.pretraining.base import PRETRAINING
from robust_transfer.pretraining.objective import AdversarialObjective
from robust_transfer.pretraining.weight_perturbation import Crafting
from robust_transfer.run import Run
from robust_transfer.threat import Threat
from robust_transfer.training import Objective


@PRETRAINING.register("pgd-at", summary="training on PGD examples", paper="Madry et al. 2018")
@config
class PGDAT(Crafting):
    """``steps`` steps of ``step * eps``; the defaults are Madry et al.'s 7 steps of 2/255 at 8/255.

    ``preset=paper``: as the transfer paper's sources for LwF (Shafahi et al. 2020, section 6).
    """

    weighs: ClassVar[bool] = True
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"epochs": 100.0, "learning_rate": 0.1, "schedule": "step"}
    }

    steps: int = 7
    step: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1 or self.step <= 0:
            raise ConfigError("pgd-at needs at least one step, of positive length")

    @property
    @override
    def passes_per_image(self) -> float:
        return self.training_passes + 2.0 * self.steps

    @override
    def objective(self, classifier: Classifier, task: Task, threat: Threat, run: Run) -> Objective:
        return AdversarialObjective(classifier, threat, run, steps=self.steps, step=self.step, awp=self.awp)
