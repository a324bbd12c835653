"""Base of the strategies that train weights: from a start, through ``fit``, to a result with its card."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from typing_extensions import override

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.cost import Cost
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.monitor import Validation, validation_passes
from robust_transfer.production import Produced
from robust_transfer.run import Run
from robust_transfer.strategies.base import STRATEGIES, Strategy
from robust_transfer.threat import Threat
from robust_transfer.training import HeadPenalty, NaturalObjective, Objective, TrainingSettings, Validate, fit
from robust_transfer.training.settings import Augment, Schedule

BatchNorm = Literal["eval", "train"]
COLLAPSE_EVIDENCE = 500  # minority-class images, all predicted as one class, that count as collapse


@dataclass
class TrainingStart:
    """Initial network of training, and its part of the card.

    ``features`` are the source's on the train split ``(n, d)``, if computed before, and ``head_penalty`` the penalty
    of a solved head; ``teacher`` a frozen network that knows the target's classes.
    """

    classifier: Classifier
    criterion: str
    metrics: dict[str, Any] = field(default_factory=dict)
    events: tuple[str, ...] = ()
    cost: Cost = field(default_factory=Cost)
    features: Tensor | None = None
    head_penalty: HeadPenalty | None = None
    teacher: Classifier | None = None


@dataclass
class Minimised:
    """Objective to minimise; ``cost`` of preparing it; ``metrics``: notes for the card."""

    objective: Objective
    cost: Cost = field(default_factory=Cost)
    metrics: dict[str, Any] = field(default_factory=dict)


@config
class Trained(TrainingSettings, Strategy):
    """Base of the strategies that train weights by ``fit``. Subclasses define the start and the objective.

    ``batch_norm``: in evaluation mode (``eval``) or adapting (``train``). Validation uses no adversarial examples,
    unless ``select=robust`` asks for them.
    """

    epochs: float = 4.0
    learning_rate: float = 2e-3
    weight_decay: float = 2e-4
    schedule: Schedule = "cosine"
    augment: Augment = False
    batch_norm: BatchNorm = "eval"

    def passes(self, task: Task) -> float:
        """Forecast: one pass over the images, 3 passes for each training image shown, and validation."""
        looks = self.epochs * validation_passes(task.val, robust=self.select == "robust")
        return len(task.train) + 3.0 * self.images_seen(len(task.train)) + looks

    @abstractmethod
    def start(self, source: Checkpoint, task: Task, run: Run) -> TrainingStart:
        """Initial network of training, independent of ``source``."""

    def objective(self, source: Checkpoint, start: TrainingStart, task: Task, run: Run) -> Minimised:
        """Objective on ``start.classifier``; ``start.head_penalty``, if any, is added to it afterwards."""
        return Minimised(NaturalObjective(start.classifier, self.patience(task)))

    @override
    def check(self, source: Checkpoint, task: Task) -> None:
        if self.select != "last" and not len(task.val):
            raise ConfigError(f"select={self.select} needs a val split, and val is empty: use select=last")
        if self.select == "robust" and self.threat_of(source) is None:
            raise ConfigError("select=robust needs a source with a threat on its card: use select=clean or last")

    @override
    def adapt(self, source: Checkpoint, task: Task, run: Run) -> Produced:
        return self.train_from(self.start(source, task, run), source, task, run)

    def train_from(self, start: TrainingStart, source: Checkpoint, task: Task, run: Run) -> Produced:
        """Train from a given start, whose cost is included."""
        start.classifier.hold_batch_norm = self.batch_norm == "eval"
        torch.manual_seed(run.seed)
        minimised = self.objective(source, start, task, run)
        minimised.objective.head_penalty = start.head_penalty
        threat = self.threat_of(source) if self.select == "robust" else None
        fitted = fit(
            minimised.objective,
            task.train,
            self,
            run,
            validate=self.validation(start.classifier, task, threat, run) if len(task.val) else None,
            label=STRATEGIES.name_of(type(self)),
            fingerprint={"source": source.hash, "strategy": type(self).__name__, "val": task.val.hash},
        )
        best = f"best {task.measure}val {self.select} accuracy (epoch {fitted.best_epoch})"
        selected = "last epoch" if self.select == "last" else best
        return Produced(
            classifier=fitted.classifier,
            criterion=f"{selected}; {start.criterion}",
            metrics={
                **{f"val_{k}": v for k, v in fitted.figures.items()},
                **start.metrics,
                **minimised.metrics,
                **self.told(task.train.size),
            },
            events=(*start.events, *fitted.events),
            cost=start.cost + minimised.cost + fitted.cost(self.adversarial),
        )

    def validation(self, classifier: Classifier, task: Task, threat: Threat | None, run: Run) -> Validate:
        """Validation after every epoch: clean accuracy, and robust accuracy under ``threat`` if there is one."""
        return Validation(task.val, threat, run)

    def patience(self, task: Task) -> int:
        """Number of successive one-class batches that an uncollapsed network is unlikely to reach.

        Small batches, and batches of unbalanced classes, are often predicted as one class by a healthy network.
        """
        commonest = int(task.train.labels.bincount().amax())
        others = len(task.train) - commonest
        return max(
            4, math.ceil(COLLAPSE_EVIDENCE * len(task.train) / max(others, 1) / min(self.batch_size, len(task.train)))
        )
