"""Adversarially robust distillation (Goldblum et al. 2020): the teacher's answer on clean images, kept under attack."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor
from typing_extensions import override

from robust_transfer import losses
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.pretraining.objective import AdversarialObjective
from robust_transfer.run import Run
from robust_transfer.strategies.base import STRATEGIES
from robust_transfer.strategies.distilled import Distilled
from robust_transfer.strategies.teacher import Teacher
from robust_transfer.strategies.trained import TrainingStart
from robust_transfer.threat import Threat
from robust_transfer.training import Batch, Objective


@STRATEGIES.register(
    "ard",
    summary="distillation from the source with a probe: its answers on clean images, kept under attack",
    paper="Goldblum et al. 2020 (ARD)",
)
@config
class ARD(Distilled):
    """Minimises ``alpha T^2 KL(p_T(x) || q_T(x')) + (1 - alpha) CE(q(x), y)``, ``p`` the teacher's and ``q`` the student's.

    ``T`` is ``temperature``; ``x'`` are PGD examples against the student. KL is summed over classes (the released code
    takes their mean, which divides it by their number). ``preset=paper``: the released code's settings, from scratch.
    """

    weighs: ClassVar[bool] = True

    temperature: float = 30.0
    alpha: float = 1.0

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {
            "init": "scratch",
            "temperature": 30.0,
            "alpha": 1.0,
            "steps": 10,
            "step": 0.25,
            "epochs": 200.0,
            "learning_rate": 0.1,
            "schedule": "step",
            "weight_decay": 2e-4,
            "batch_size": 128,
        }
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature <= 0 or not 0 <= self.alpha <= 1:
            raise ConfigError("ard needs a positive temperature, and an alpha from 0 to 1")

    @property
    @override
    def passes_per_image(self) -> float:
        return (4.0 if self.alpha == 1 else 7.0) + 2.0 * self.steps

    @override
    def crafting(self, source: Checkpoint, start: TrainingStart, task: Task, threat: Threat, run: Run) -> Objective:
        assert start.teacher is not None
        return ARDObjective(
            start.classifier,
            start.teacher,
            threat,
            run,
            steps=self.steps,
            step=self.step,
            temperature=self.temperature,
            alpha=self.alpha,
        )


class ARDObjective(AdversarialObjective):
    """Mean over the batch of :class:`ARD`'s loss; clean images pass through the student only where ``alpha`` asks for it."""

    def __init__(
        self,
        classifier: Classifier,
        teacher: Classifier,
        threat: Threat,
        run: Run,
        *,
        steps: int,
        step: float,
        temperature: float,
        alpha: float,
    ) -> None:
        super().__init__(classifier, threat, run, steps=steps, step=step)
        self.teacher, self.temperature, self.alpha = Teacher(teacher), temperature, alpha

    @property
    @override
    def passes_per_image(self) -> float:  # type: ignore[override]
        return (4.0 if self.alpha == 1 else 7.0) + 2.0 * int(self.steps)

    @override
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        attacked, wanted = self.classifier(self.craft(batch)), self.teacher(batch.images)
        divergence = batch.mean(losses.kl(attacked / self.temperature, wanted / self.temperature))
        loss = self.alpha * self.temperature**2 * divergence
        if self.alpha == 1:
            return {"loss": loss, "divergence": divergence, "logits": attacked}
        cross_entropy = batch.cross_entropy(self.classifier(batch.images))
        return {
            "loss": loss + (1 - self.alpha) * cross_entropy,
            "divergence": divergence,
            "cross_entropy": cross_entropy,
            "logits": attacked,
        }
