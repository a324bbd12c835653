"""Robust soft-label distillation (Zi et al. 2021): the teacher's answers are the labels, of training and of its attack."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from typing_extensions import override

from robust_transfer import losses
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.pretraining.crafting import CraftingObjective
from robust_transfer.pretraining.trades import diverging
from robust_transfer.run import Run
from robust_transfer.strategies.base import STRATEGIES
from robust_transfer.strategies.distilled import Distilled
from robust_transfer.strategies.teacher import Teacher
from robust_transfer.strategies.trained import TrainingStart
from robust_transfer.threat import Threat
from robust_transfer.training import Batch, Objective


@STRATEGIES.register(
    "rslad",
    summary="distillation from the source with a probe, whose answers are the labels of the attack, too",
    paper="Zi et al. 2021 (RSLAD)",
)
@config
class RSLAD(Distilled):
    """Minimises ``alpha KL(p(x) || q(x')) + (1 - alpha) KL(p(x) || q(x))``, ``p`` the teacher's and ``q`` the student's.

    ``x'`` climbs the first divergence, from 0.001 of noise as in TRADES; no label is used, but by the teacher's probe.
    ``alpha`` is the paper's 5/6; its attack takes 10 steps.
    """

    weighs: ClassVar[bool] = True

    alpha: float = 5 / 6

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.alpha <= 1:
            raise ConfigError(f"alpha is a share from 0 to 1, not {self.alpha}")

    @property
    @override
    def passes_per_image(self) -> float:
        return 7.0 + 2.0 * self.steps

    @override
    def crafting(self, source: Checkpoint, start: TrainingStart, task: Task, threat: Threat, run: Run) -> Objective:
        assert start.teacher is not None
        return RSLADObjective(
            start.classifier, start.teacher, threat, run, steps=self.steps, step=self.step, alpha=self.alpha
        )


class RSLADObjective(CraftingObjective):
    """Mean over the batch of :class:`RSLAD`'s loss; clean and adversarial images pass one after the other, as in TRADES."""

    def __init__(
        self,
        classifier: Classifier,
        teacher: Classifier,
        threat: Threat,
        run: Run,
        *,
        steps: int,
        step: float,
        alpha: float,
    ) -> None:
        super().__init__(classifier, threat)
        self.teacher, self.run, self.steps, self.step, self.alpha = Teacher(teacher), run, steps, step, alpha
        self.passes_per_image = 6.0 + 1.0 + 2.0 * steps  # two training passes, the teacher's, the attack's steps

    @override
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        wanted, threat = self.teacher(batch.images), self.threat_at(batch)
        crafted = diverging(self.classifier, batch, threat, self.run, steps=self.steps, step=self.step, wanted=wanted)
        clean, attacked = self.classifier(batch.images), self.classifier(crafted)
        natural, robust = (batch.mean(losses.kl(logits, wanted)) for logits in (clean, attacked))
        return {
            "loss": self.alpha * robust + (1 - self.alpha) * natural,
            "natural_divergence": natural,
            "robust_divergence": robust,
            "logits": clean,
        }
