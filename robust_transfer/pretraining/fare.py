"""FARE's stage (Schlarmann et al. 2024): without labels, features under attack are brought back to where a start had them.

FARE prepares CLIP's image encoder; here any checkpoint's features are prepared, robust or natural.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor
from typing_extensions import override

from robust_transfer.attacks.base import Victim
from robust_transfer.attacks.source_features import away
from robust_transfer.classifier import Classifier, Features
from robust_transfer.config import config
from robust_transfer.data import Task
from robust_transfer.engine import Engine
from robust_transfer.errors import ConfigError
from robust_transfer.modes import without_weight_gradients
from robust_transfer.pretraining.base import PRETRAINING
from robust_transfer.pretraining.weight_perturbation import Crafting, PerturbedObjective
from robust_transfer.run import Run
from robust_transfer.threat import Threat
from robust_transfer.training import Batch, Objective
from robust_transfer.training.settings import Schedule

NO_COLLAPSE = 10**9  # batches of one class in a row: what the head says is not trained, and may not be of these images


@PRETRAINING.register(
    "fare",
    summary="a checkpoint's features kept under attack, without labels (start: --from)",
    paper="Schlarmann et al. 2024 (Robust CLIP), section 3",
)
@config
class FARE(Crafting):
    """``max |z(x') - z0(x)|^2`` minimised, ``z0`` the frozen start's features and ``x'`` by ``steps`` steps of ``step * eps``.

    Labels are not read, so any images will do. The head stays as it was. Squared l2 distances, in units of the batch's mean
    ``|z0(x)|^2``: one ``learning_rate`` then suits networks of any scale. ``batch_norm``: with the start's statistics
    (``eval``) or those of attacked images (``train``).
    """

    weighs: ClassVar[bool] = True
    starts: ClassVar[bool] = True

    epochs: float = 5.0
    learning_rate: float = 0.02
    weight_decay: float = 1e-4
    schedule: Schedule = "cosine"
    batch_norm: Literal["eval", "train"] = "eval"
    steps: int = 10
    step: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1 or self.step <= 0:
            raise ConfigError("fare needs at least one step, of positive length")

    @property
    @override
    def passes_per_image(self) -> float:
        return self.training_passes + 1.0 + 2.0 * self.steps

    @override
    def objective(self, classifier: Classifier, task: Task, threat: Threat, run: Run) -> Objective:
        classifier.hold_batch_norm = self.batch_norm == "eval"
        return FAREObjective(classifier, threat, run, steps=self.steps, step=self.step, awp=self.awp)


class FAREObjective(PerturbedObjective):
    """Mean over the batch of :class:`FARE`'s loss; ``classifier`` is the start, of which a frozen copy is kept.

    Examples are crafted in evaluation mode from a random start: at the start's own weights the distance has no gradient
    at the clean image.
    """

    def __init__(
        self, classifier: Classifier, threat: Threat, run: Run, *, steps: int, step: float, awp: float = 0.0
    ) -> None:
        super().__init__(classifier, threat, awp=awp)
        self.run, self.steps, self.step = run, steps, step
        self.teacher = classifier.copy().requires_grad_(False)
        classifier.freeze([name for name in classifier.state_dict() if name.startswith("head.")])
        self.collapse_patience = NO_COLLAPSE
        self.passes_per_image = self.training_passes + 1.0 + 2.0 * steps  # the start's features, the attack's steps

    @override
    def craft(self, batch: Batch) -> Tensor:
        classifier, threat, x = self.classifier, self.threat_at(batch), batch.images
        target = Victim(Features(classifier), x.device, Engine(self.run.dtype(), folded=False))
        self._wanted = self._start_features(x)
        current = threat.random_start(x, batch.ids, seed=self.run.seed, purpose="fare", step=batch.step)
        with classifier.eval_mode(), without_weight_gradients(classifier):
            for _ in range(self.steps):
                _, gradient = target.gradient(current, self._wanted, away)
                current = threat.project(current + self.step * threat.eps * threat.steepest(gradient), x)
        return current.detach()

    @override
    def terms(self, batch: Batch, crafted: Tensor) -> dict[str, Tensor]:
        features = self.classifier.features(crafted)
        unit = batch.mean(self._wanted.square().sum(1)).clamp_min(1e-12)
        return {
            "loss": batch.mean(away(features, self._wanted)) / unit,
            "logits": self.classifier.classify(features.detach()),
        }

    def _start_features(self, x: Tensor) -> Tensor:
        with self.teacher.eval_mode(), torch.no_grad():
            return self.teacher.features(x)
