"""Fast adversarial training: one FGSM step from a random start (Wong, Rice & Kolter 2020), with a guard."""

from __future__ import annotations

from typing import ClassVar

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


@PRETRAINING.register("fast", summary="training on one-step examples, guarded", paper="Wong, Rice & Kolter 2020")
@config
class Fast(Crafting):
    """One step of ``step * eps`` (1.25 in the paper) from a uniform start.

    ``guard_images`` val (or else training) images are attacked with FGSM and PGD-5 every ``guard_every`` steps; where
    FGSM accuracy stays high and PGD accuracy collapses, training goes back to the last good state and takes two steps.
    """

    weighs: ClassVar[bool] = True

    step: float = 1.25
    guard_images: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.step <= 0 or self.guard_images < 1:
            raise ConfigError("fast needs a positive step and at least one guard image")

    @property
    @override
    def passes_per_image(self) -> float:
        return self.training_passes + 2.0

    @override
    def objective(self, classifier: Classifier, task: Task, threat: Threat, run: Run) -> Objective:
        pool = task.val if len(task.val) >= self.guard_images else task.train
        guarded = pool.sample(self.guard_images, seed=0, purpose="guard")
        return AdversarialObjective(classifier, threat, run, steps=1, step=self.step, guarded=guarded, awp=self.awp)
