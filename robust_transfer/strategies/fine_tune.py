"""End-to-end fine-tuning on natural images: the control that forgets robustness (Shafahi et al. 2020, section 6)."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.run import Run
from robust_transfer.strategies.base import STRATEGIES, Adapted, HeadRule, Strategy, keeps_head
from robust_transfer.strategies.linear_probe import Choose, LinearProbe, attach
from robust_transfer.threat import Threat
from robust_transfer.training import Batch, NaturalObjective, Objective, TrainingSettings, fit
from robust_transfer.training.settings import Schedule
from robust_transfer.validation import Validation

TELLING = 500  # images of other classes than the commonest: to call none of them by its name is to have collapsed


@STRATEGIES.register(
    "fine-tune",
    summary="all weights on natural images, from a warm-started head",
    paper="Shafahi et al. 2020, section 6 (control)",
)
@config
class FineTune(TrainingSettings, Strategy):
    """Natural training of all weights, from the source's.

    ``warm_start`` first solves the linear probe (its penalty ``l2``, or chosen on val by ``choose``); with ``hold_l2`` the
    same penalty, in place of weight decay, stays on the head while everything trains. ``head``: see the head rule; a kept
    head is not warm-started. ``batch_norm``: in evaluation mode (``eval``, the paper's setting) or adapting (``train``).
    Val is looked at without adversarial examples, unless ``select=robust`` or ``choose=robust`` asks for them.
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

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.l2 is not None and self.l2 <= 0:
            raise ConfigError(f"l2 must be positive, not {self.l2}")

    def check(self, source: Checkpoint, task: Task) -> None:
        """See :class:`Strategy`."""
        if self.select != "last" and not len(task.val):
            raise ConfigError(f"select={self.select} needs a val split, and there is none: use select=last")
        if self.select == "robust" and source.card.threat is None:
            raise ConfigError("select=robust needs a source with a threat on its card: use select=clean or last")
        if not keeps_head(source, task, self.head) and self.warm_start:
            LinearProbe(l2=self.l2, choose=self.choose).check(source, task)

    def adapt(self, source: Checkpoint, task: Task, run: Run) -> Adapted:
        """See :class:`Strategy`."""
        start = self._start(source, task, run)
        classifier = start.classifier
        classifier.hold_batch_norm = self.batch_norm == "eval"
        torch.manual_seed(run.seed)
        objective, cost, notes = self.objective(source, classifier, task, run, start.features)
        if self.hold_l2 and start.l2 is not None and start.deviations is not None:
            objective = HeldHead(objective, start.l2, start.deviations)
        threat = Threat.parse(source.card.threat) if self.select == "robust" and source.card.threat else None
        began = time.perf_counter()
        fitted = fit(
            objective,
            task.train,
            self,
            run,
            validate=Validation(task.val, threat, run) if len(task.val) else None,
            label=STRATEGIES.name_of(type(self)),
            cached={"source": source.hash, "strategy": type(self).__name__, "val": task.val.hash},
        )
        selected = (
            "last epoch" if self.select == "last" else f"best val {self.select} accuracy (epoch {fitted.best_epoch})"
        )
        return Adapted(
            classifier=fitted.classifier,
            criterion=f"{selected}; {start.criterion}",
            metrics={**{f"val_{k}": v for k, v in fitted.last.items()}, **start.metrics, **notes},
            events=(*start.events, *fitted.events),
            cost=start.cost + cost + fitted.passes + fitted.validation_passes,
            adversarial_examples=start.adversarial_examples + fitted.validation_examples,
            seconds_before=max(0.0, fitted.seconds - (time.perf_counter() - began)),
        )

    def objective(
        self, source: Checkpoint, classifier: Classifier, task: Task, run: Run, features: Tensor | None = None
    ) -> tuple[Objective, float, dict[str, Any]]:
        """What is minimised, the image passes that preparing it took, and notes for the card.

        ``features``: the source's on the train split ``(n, d)``, where the warm start has computed them.
        """
        return NaturalObjective(classifier, self._patience(task)), 0.0, {}

    def _patience(self, task: Task) -> int:
        """For how many successive batches a network that has not collapsed will hardly predict one class alone.

        Small batches, and batches of unbalanced classes, are often one class to a network that is fine.
        """
        commonest = int(task.train.labels.bincount().amax())
        others = len(task.train) - commonest
        return max(4, math.ceil(TELLING * len(task.train) / max(others, 1) / min(self.batch_size, len(task.train))))

    def _start(self, source: Checkpoint, task: Task, run: Run) -> _Start:
        if keeps_head(source, task, self.head):
            return _Start(source.classifier.copy(), "the source's head is kept")
        if not self.warm_start:
            return _Start(source.classifier.with_head(task.num_classes, seed=run.seed), "new random head")
        probe = LinearProbe(l2=self.l2, choose=self.choose).solve(source, task, run)
        return _Start(
            attach(source.classifier, probe.chosen.head()),
            f"head warm-started: {probe.criterion}",
            metrics={"l2": probe.chosen.l2, "l2_path": probe.records},
            events=probe.notes(),
            cost=probe.cost,
            adversarial_examples=probe.adversarial_examples,
            l2=probe.chosen.l2,
            deviations=probe.standardisation.std.float(),
            features=probe.features,
        )


@dataclass
class _Start(Adapted):
    """The network that training begins with, and what finding it took; the last three where it is a probe's."""

    l2: float | None = None
    deviations: Tensor | None = None
    features: Tensor | None = None


class HeldHead(Objective):
    """Another objective plus the probe's own penalty, ``l2 / 2 * |W diag(deviations)|^2``, so that the head stays as strong.

    It is in place of the optimiser's weight decay, which is often the stronger of the two.
    """

    deviations: Tensor

    def __init__(self, inner: Objective, l2: float, deviations: Tensor) -> None:
        nn.Module.__init__(self)  # the classifier is the inner objective's: held twice, it would be saved twice
        self.inner, self.l2 = inner, l2
        self.collapse_patience, self.max_reactions = inner.collapse_patience, inner.max_reactions
        self.register_buffer("deviations", deviations)

    @property
    def classifier(self) -> Classifier:  # type: ignore[override]
        """The inner objective's."""
        return self.inner.classifier

    @property
    def passes_per_image(self) -> float:  # type: ignore[override]
        """The inner objective's."""
        return self.inner.passes_per_image

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See :class:`Objective`."""
        out, head = self.inner(batch), self.classifier.head
        penalty = self.l2 / 2 * (head.weight * self.deviations).square().sum()
        return {**out, "loss": out["loss"] + penalty, "head_penalty": penalty}

    def undecayed(self) -> list[nn.Parameter]:
        """The head's, on top of the inner objective's."""
        return [*self.inner.undecayed(), *self.classifier.head.parameters()]

    def guard(self) -> tuple[str | None, dict[str, float]]:
        """The inner objective's."""
        found = self.inner.guard()
        self.spent, self.inner.spent = self.spent + self.inner.spent, 0.0
        return found

    def react(self) -> str:
        """The inner objective's."""
        return self.inner.react()
