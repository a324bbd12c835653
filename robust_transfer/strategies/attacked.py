"""Base of the strategies that train on adversarial examples of the target: one training budget, one threat for all."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from typing_extensions import override

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.config import config
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.monitor import validation_passes
from robust_transfer.pretraining.crafting import CraftingObjective
from robust_transfer.run import Run
from robust_transfer.strategies.trained import BatchNorm, Minimised, Trained, TrainingStart
from robust_transfer.threat import Threat
from robust_transfer.training import EpsSchedule, Objective
from robust_transfer.training.settings import Augment, Schedule


@config
class Attacked(Trained):
    """Base of the strategies that craft adversarial examples of the target. Subclasses define start and objective.

    ``threat`` defaults to the source's. Its eps may grow during training, for sources that are not robust: it is
    ``eps_start`` times the threat's for the first ``eps_hold`` of training and grows linearly over the next
    ``eps_ramp`` (epsilon scheduling, Ngnawé et al. 2026; the shares are yours to choose).
    """

    adversarial: ClassVar[bool] = True

    threat: str | None = None
    eps_start: float = 0.0
    eps_hold: float = 0.0
    eps_ramp: float = 0.0
    epochs: float = 20.0
    learning_rate: float = 0.02
    weight_decay: float = 5e-4
    schedule: Schedule = "cosine"
    augment: Augment = True
    batch_norm: BatchNorm = "train"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.eps_schedule()
        if self.threat is not None:
            _refuse_nothing(Threat.parse(self.threat))

    def eps_schedule(self) -> EpsSchedule:
        """Schedule of the threat's eps."""
        return EpsSchedule(start=self.eps_start, hold=self.eps_hold, ramp=self.eps_ramp)

    @property
    @abstractmethod
    def passes_per_image(self) -> float:
        """Forward-equivalent passes per training image of a step, the attack's included."""

    def preparation(self, task: Task) -> float:
        """Forecast of the passes before training."""
        return 0.0

    @override
    def passes(self, task: Task) -> float:
        """Forecast: the preparation, the steps with their attacks, and looks at val, attacked if ``select=robust``."""
        watching = self.epochs * validation_passes(task.val, robust=self.select == "robust")
        return self.preparation(task) + self.images_seen(len(task.train)) * self.passes_per_image + watching

    @override
    def threat_of(self, source: Checkpoint) -> Threat | None:
        """Threat that it trains for."""
        return Threat.parse(self.threat) if self.threat is not None else source.card.threat

    @override
    def check(self, source: Checkpoint, task: Task) -> None:
        super().check(source, task)
        self.trained_for(source)

    def trained_for(self, source: Checkpoint) -> Threat:
        """Threat that it trains for; raises :class:`ConfigError` where neither it nor the source has one."""
        wanted = self.threat_of(source)
        if wanted is None:
            raise ConfigError(
                "adversarial training needs a threat, and the source's card has none: set threat=linf:8/255"
            )
        _refuse_nothing(wanted)
        return wanted

    @abstractmethod
    def crafting(self, source: Checkpoint, start: TrainingStart, task: Task, threat: Threat, run: Run) -> Objective:
        """Objective on ``start.classifier`` that crafts within ``threat``."""

    @override
    def objective(self, source: Checkpoint, start: TrainingStart, task: Task, run: Run) -> Minimised:
        threat = self.trained_for(source)
        objective = self.scheduled(self.crafting(source, start, task, threat, run))
        return Minimised(objective, metrics={"trained_for": str(threat)})

    def scheduled(self, objective: Objective) -> Objective:
        """``objective``, its eps on this strategy's schedule."""
        schedule = self.eps_schedule()
        if isinstance(objective, CraftingObjective):
            objective.schedule = schedule
        elif schedule.active:
            raise ConfigError(f"{type(objective).__name__} has no schedule of eps: leave out eps_hold and eps_ramp")
        return objective


@config
class ByPGD(Attacked):
    """Base of those whose examples take ``steps`` steps of ``step * eps``, by default those of ``pgd-at``."""

    quick: ClassVar[dict[str, Any]] = {"epochs": 1, "augment": False, "threat": "linf:8/255", "steps": 1}

    steps: int = 7
    step: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1 or self.step <= 0:
            raise ConfigError("crafting needs at least one step, of positive length")


def _refuse_nothing(threat: Threat) -> None:
    if threat.eps == 0:
        raise ConfigError(f"nothing is adversarial within {threat}: give an eps above 0, as in threat=linf:8/255")
