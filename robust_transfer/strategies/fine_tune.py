"""End-to-end fine-tuning on natural images: the control that forgets robustness (Shafahi et al. 2020, section 6)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.run import Run
from robust_transfer.strategies.base import STRATEGIES, Adapted, HeadRule, Strategy, keeps_head
from robust_transfer.strategies.linear_probe import Choose, LinearProbe, attach
from robust_transfer.threat import Threat
from robust_transfer.training import NaturalObjective, Objective, TrainingSettings, fit
from robust_transfer.training.settings import Schedule
from robust_transfer.validation import Validation

FRESH_PATIENCE = 100  # a new head without warm start begins with one-class batches


@STRATEGIES.register(
    "fine-tune",
    summary="all weights on natural images, from a warm-started head",
    paper="Shafahi et al. 2020, section 6 (control)",
)
@config
class FineTune(TrainingSettings, Strategy):
    """Natural training of all weights, from the source's.

    ``warm_start`` first solves the linear probe (its penalty ``l2``, or chosen on val by ``choose``); with ``hold_l2`` the
    same penalty stays on the head while everything trains. ``head``: see the head rule; a kept head is not warm-started.
    ``batch_norm``: in evaluation mode (``eval``, the paper's setting) or adapting (``train``).
    """

    epochs: float = 4.0
    learning_rate: float = 2e-3
    weight_decay: float = 2e-4
    schedule: Schedule = "cosine"
    augment: bool = False
    warm_start: bool = True
    l2: float | None = None
    choose: Choose = "log-loss"
    hold_l2: bool = True
    head: HeadRule = "auto"
    batch_norm: Literal["eval", "train"] = "eval"

    def adapt(self, source: Checkpoint, task: Task, run: Run) -> Adapted:
        """See :class:`Strategy`."""
        if self.select != "last" and not len(task.val):
            raise ConfigError(f"select={self.select} needs a val split, and there is none: use select=last")
        if self.select == "robust" and source.card.threat is None:
            raise ConfigError("select=robust needs a source with a threat on its card: use select=clean or last")
        start = self._start(source, task, run)
        classifier = start.classifier
        classifier.hold_batch_norm = self.batch_norm == "eval"
        torch.manual_seed(run.seed)
        objective, cost, notes = self.objective(source, classifier, task, run)
        if self.hold_l2 and start.l2 is not None and start.deviations is not None:
            objective = HeldHead(objective, start.l2, start.deviations)
        threat = Threat.parse(source.card.threat) if self.select == "robust" and source.card.threat else None
        validation = Validation(task.val, threat, run)  # no adversarial example is made unless one is asked for
        fitted = fit(
            objective,
            task.train,
            self,
            run,
            validate=validation if len(task.val) else None,
            label=STRATEGIES.name_of(type(self)),
            cached={"source": source.hash, "strategy": type(self).__name__},
        )
        selected = (
            "last epoch" if self.select == "last" else f"best val {self.select} accuracy (epoch {fitted.best_epoch})"
        )
        return Adapted(
            classifier=fitted.classifier,
            criterion=f"{selected}; {start.criterion}",
            metrics={**{f"val_{k}": v for k, v in fitted.last.items()}, **start.metrics, **notes},
            events=fitted.events,
            cost=start.cost + cost + fitted.passes + fitted.validation_passes,
            adversarial_examples=start.adversarial_examples + fitted.validation_examples,
        )

    def objective(
        self, source: Checkpoint, classifier: Classifier, task: Task, run: Run
    ) -> tuple[Objective, float, dict[str, Any]]:
        """What is minimised, the image passes that preparing it took, and notes for the card."""
        return NaturalObjective(classifier, self._patience()), 0.0, {}

    def _patience(self) -> int:
        return 1 if self.warm_start else FRESH_PATIENCE

    def _start(self, source: Checkpoint, task: Task, run: Run) -> _Start:
        if keeps_head(source, task, self.head):
            return _Start(source.classifier.copy(), "the source's head is kept")
        if not self.warm_start:
            return _Start(source.classifier.with_head(task.num_classes, seed=run.seed), "new random head")
        probe = LinearProbe(l2=self.l2, choose=self.choose).solve(source, task, run)
        start = _Start(attach(source.classifier, probe.chosen.head()), f"head warm-started: {probe.criterion}")
        start.metrics = {"l2": probe.chosen.l2, "l2_path": probe.records}
        start.cost, start.adversarial_examples = probe.cost, probe.adversarial_examples
        start.l2, start.deviations, start.features = probe.chosen.l2, probe.standardisation.std.float(), probe.features
        return start


class _Start:
    """The network that training begins with."""

    def __init__(self, classifier: Classifier, criterion: str) -> None:
        self.classifier, self.criterion = classifier, criterion
        self.metrics: dict[str, Any] = {}
        self.cost, self.adversarial_examples = 0.0, 0
        self.l2: float | None = None
        self.deviations: Tensor | None = None
        self.features: Tensor | None = None


class HeldHead(Objective):
    """Another objective plus the probe's own penalty, ``l2 / 2 * |W diag(deviations)|^2``, so that the head stays as strong."""

    deviations: Tensor

    def __init__(self, inner: Objective, l2: float, deviations: Tensor) -> None:
        super().__init__(inner.classifier)
        self.inner, self.l2 = inner, l2
        self.collapse_patience, self.passes_per_image = inner.collapse_patience, inner.passes_per_image
        self.register_buffer("deviations", deviations)

    def forward(self, batch: Any) -> dict[str, Tensor]:
        """See :class:`Objective`."""
        out = self.inner(batch)
        penalty = self.l2 / 2 * (self.classifier.head.weight * self.deviations).square().sum()
        return {**out, "loss": out["loss"] + penalty}
