"""Robust linear initialisation (Hua et al. 2024): adversarial fine-tuning that begins at an adversarial linear probe."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import torch
from typing_extensions import override

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.config import config
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.pretraining.objective import AdversarialObjective
from robust_transfer.run import Run
from robust_transfer.strategies import inner
from robust_transfer.strategies.attacked import ByPGD
from robust_transfer.strategies.base import STRATEGIES
from robust_transfer.strategies.trained import TrainingStart
from robust_transfer.threat import Threat
from robust_transfer.training import Objective, TrainingSettings, fit


@STRATEGIES.register(
    "roli",
    summary="adversarial training on the target, from an adversarial linear probe",
    paper="Hua et al. 2024 (RoLI)",
)
@config
class RoLI(ByPGD):
    """Two trainings on PGD examples: a new head on the frozen source, ``probe_epochs`` long, then all weights from it.

    The attack on the probe goes through the frozen network. ``probe_learning_rate`` is the probe's; all other settings are
    shared, and a schedule of eps runs over each training.
    """

    weighs: ClassVar[bool] = True
    quick: ClassVar[dict[str, Any]] = {**ByPGD.quick, "probe_epochs": 1}

    probe_epochs: float = 20.0
    probe_learning_rate: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.probe_epochs <= 0 or self.probe_learning_rate <= 0:
            raise ConfigError("probe_epochs and probe_learning_rate must be positive")

    @property
    @override
    def passes_per_image(self) -> float:
        return 3.0 + 2.0 * self.steps

    @override
    def preparation(self, task: Task) -> float:
        return self.probing().images_seen(len(task.train)) * (1.0 + 2.0 * self.steps)

    def probing(self) -> TrainingSettings:
        """Settings of the probe's training."""
        mine = {"epochs": self.probe_epochs, "learning_rate": self.probe_learning_rate, "select": "last", "ema": None}
        return TrainingSettings(**{**self.training(), **mine})

    @override
    def start(self, source: Checkpoint, task: Task, run: Run) -> TrainingStart:
        threat = self.trained_for(source)
        probe = source.classifier.with_head(task.num_classes, seed=run.seed).freeze()
        objective = ProbeObjective(probe, threat, run, steps=self.steps, step=self.step)
        torch.manual_seed(run.seed)
        fitted = fit(
            self.scheduled(objective),
            task.train,
            self.probing(),
            inner.inside(run, "probe"),
            label="roli's probe",
            fingerprint={"source": source.hash, "crafting": dataclasses.asdict(self)},
        )
        return TrainingStart(
            source.classifier.with_layers(fitted.classifier.head),
            "from an adversarial linear probe",
            events=fitted.events,
            cost=fitted.cost(self.adversarial),
        )

    @override
    def crafting(self, source: Checkpoint, start: TrainingStart, task: Task, threat: Threat, run: Run) -> Objective:
        return AdversarialObjective(start.classifier, threat, run, steps=self.steps, step=self.step)


class ProbeObjective(AdversarialObjective):
    """Adversarial training of a head whose classifier is frozen: the backward pass of a step ends at the features."""

    @property
    @override
    def passes_per_image(self) -> float:  # type: ignore[override]
        return 1.0 + 2.0 * int(self.steps)
