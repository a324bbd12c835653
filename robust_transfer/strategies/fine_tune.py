"""End-to-end fine-tuning on natural images: the control that forgets robustness (Shafahi et al. 2020, section 6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor, nn

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.run import Run
from robust_transfer.strategies.base import STRATEGIES, HeadRule, keeps_head
from robust_transfer.strategies.kept_head import kept_head
from robust_transfer.strategies.linear_probe import Choose, LinearProbe, attach
from robust_transfer.strategies.trained import Trained, TrainingStart
from robust_transfer.training import Batch, Objective


@STRATEGIES.register(
    "fine-tune",
    summary="all weights on natural images, from a warm-started head",
    paper="Shafahi et al. 2020, section 6 (control)",
)
@config
class FineTune(Trained):
    """Natural training of all weights, from the source's.

    ``warm_start`` first solves the linear probe (its penalty ``l2``, or chosen on val by ``choose``); with ``hold_l2`` the
    same penalty, in place of weight decay, stays on the head while everything trains. ``head``: see the head rule; a kept
    head is not warm-started. ``batch_norm``: in evaluation mode (``eval``, the paper's setting) or adapting (``train``).
    Val is looked at without adversarial examples, unless ``select=robust`` or ``choose=robust`` asks for them.
    """

    quick: ClassVar[dict[str, Any]] = {"epochs": 1, "head": "new"}

    warm_start: bool = True
    l2: float | None = None
    choose: Choose = "log-loss"
    hold_l2: bool = True
    head: HeadRule = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.l2 is not None and self.l2 <= 0:
            raise ConfigError(f"l2 must be positive, not {self.l2}")

    def check(self, source: Checkpoint, task: Task) -> None:
        """See :class:`Strategy`."""
        super().check(source, task)
        if not keeps_head(source, task, self.head) and self.warm_start:
            LinearProbe(l2=self.l2, choose=self.choose).check(source, task)

    def start(self, source: Checkpoint, task: Task, run: Run) -> TrainingStart:
        """See :class:`Trained`."""
        if keeps_head(source, task, self.head):
            return TrainingStart(kept_head(source, task), "the source's head is kept")
        if not self.warm_start:
            return TrainingStart(source.classifier.with_head(task.num_classes, seed=run.seed), "new random head")
        probe = LinearProbe(l2=self.l2, choose=self.choose).solve(source, task, run)
        return TrainingStart(
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

    def objective(
        self, source: Checkpoint, start: TrainingStart, task: Task, run: Run
    ) -> tuple[Objective, float, dict[str, Any]]:
        """See :class:`Trained`; with ``hold_l2`` on a warm-started head, its penalty on top."""
        objective, cost, notes = self.loss(source, start, task, run)
        if self.hold_l2 and start.l2 is not None and start.deviations is not None:
            objective = HeldHead(objective, start.l2, start.deviations)
        return objective, cost, notes

    def loss(
        self, source: Checkpoint, start: TrainingStart, task: Task, run: Run
    ) -> tuple[Objective, float, dict[str, Any]]:
        """Objective without that penalty."""
        return super().objective(source, start, task, run)


class HeldHead(Objective):
    """Another objective plus the probe's own penalty, ``l2 / 2 * |W diag(deviations)|^2``, so that the head stays as strong.

    It is in place of the optimiser's weight decay, which is often the stronger of the two.
    """

    deviations: Tensor

    def __init__(self, inner: Objective, l2: float, deviations: Tensor) -> None:
        nn.Module.__init__(self)  # the classifier is the inner objective's: held twice, it would be saved twice
        self.inner, self.l2 = inner, l2
        self.collapse_patience, self.max_reactions = inner.collapse_patience, inner.max_reactions
        self.replays = inner.replays
        self.register_buffer("deviations", deviations)

    @property
    def classifier(self) -> Classifier:  # type: ignore[override]
        """Inner objective's."""
        return self.inner.classifier

    @property
    def passes_per_image(self) -> float:  # type: ignore[override]
        """Inner objective's."""
        return self.inner.passes_per_image

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See :class:`Objective`."""
        out, head = self.inner(batch), self.classifier.head
        assert isinstance(head, nn.Linear)  # it is the probe's
        penalty = self.l2 / 2 * (head.weight * self.deviations).square().sum()
        return {**out, "loss": out["loss"] + penalty, "head_penalty": penalty}

    def undecayed(self) -> list[nn.Parameter]:
        """Head's, on top of the inner objective's."""
        return [*self.inner.undecayed(), *self.classifier.head.parameters()]

    def after_backward(self, gather: Callable[[Tensor], Tensor]) -> None:
        """Inner objective's."""
        self.inner.after_backward(gather)

    def guard(self) -> tuple[str | None, dict[str, float]]:
        """Inner objective's."""
        found = self.inner.guard()
        self.spent, self.inner.spent = self.spent + self.inner.spent, 0.0
        return found

    def react(self) -> str:
        """Inner objective's."""
        return self.inner.react()
