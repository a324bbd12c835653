"""Base of the curves between two networks: a head on the source's features, and its natural fine-tuning."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from typing_extensions import override

from robust_transfer import tracking
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.data import Task
from robust_transfer.monitor import validation_passes
from robust_transfer.run import Run
from robust_transfer.strategies.base import HeadRule
from robust_transfer.strategies.curve import Curve, Front
from robust_transfer.strategies.fine_tune import FineTune
from robust_transfer.strategies.linear_probe import Choose
from robust_transfer.strategies.trained import TrainingStart
from robust_transfer.training import TrainingSettings
from robust_transfer.training.settings import Augment, Schedule


@config
class TwoEnds(Curve, TrainingSettings):
    """Base of the strategies that look for a network between two: the robust end and its natural fine-tuning.

    The robust end is a linear probe on the source's features (its penalty ``l2``, or chosen on val by ``choose``), or the
    source itself where its head is kept (``head``). The other settings are those of :class:`FineTune`, which begins there.
    """

    quick: ClassVar[dict[str, Any]] = {"epochs": 1, "head": "new", "l2": 0.1}

    epochs: float = 4.0
    learning_rate: float = 2e-3
    weight_decay: float = 2e-4
    schedule: Schedule = "cosine"
    augment: Augment = False
    l2: float | None = None
    choose: Choose = "robust"
    hold_l2: bool = True
    head: HeadRule = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.fine_tuning()

    def fine_tuning(self) -> FineTune:
        """Natural fine-tuning with this strategy's training settings."""
        own: dict[str, Any] = {name: getattr(self, name) for name in ("l2", "hold_l2", "head")}
        return FineTune(choose=self.choose, **own, **self.training())

    @override
    def check(self, source: Checkpoint, task: Task) -> None:
        super().check(source, task)
        self.fine_tuning().check(source, task)

    @override
    def passes(self, task: Task) -> float:
        """Forecast: one fine-tuning, and PGD-10 on val for each point."""
        return self.fine_tuning().passes(task) + self.points() * validation_passes(task.val, robust=True)

    def points(self) -> int:
        """Number of points that are measured on val."""
        return 2

    def robust_end(self, front: Front, source: Checkpoint, task: Task, run: Run) -> TrainingStart:
        """Probe or source, measured as the anchor of the curve."""
        start = self.fine_tuning().start(source, task, run)
        front.cost += start.cost
        front.events += start.events
        kind = "linear-probe" if start.metrics else "source"
        front.add(kind, start.classifier.copy(), anchor=True, l2=start.metrics.get("l2"))
        return start

    def tuned_end(
        self, front: Front, start: TrainingStart, source: Checkpoint, task: Task, frozen: Iterable[str] = ()
    ) -> Classifier:
        """Natural fine-tuning of ``start``, which is not changed, but for state that is ``frozen``. It is not measured."""
        return trained_from(self.fine_tuning(), front, start, source, task, "fine-tune", frozen)


def trained_from(
    strategy: FineTune,
    front: Front,
    start: TrainingStart,
    source: Checkpoint,
    task: Task,
    name: str,
    frozen: Iterable[str] = (),
) -> Classifier:
    """Classifier trained by ``strategy`` from a copy of ``start``, but for ``frozen`` state; the curve pays for it.

    Raises :class:`DivergedError`.
    """
    begun = TrainingStart(
        start.classifier.copy(), start.criterion, features=start.features, head_penalty=start.head_penalty
    )
    begun.classifier.freeze(frozen)
    with tracking.within(name):
        made = strategy.train_from(begun, source, task, front.inside(name))
    front.cost += made.cost
    front.events += [f"{name}: {event}" for event in made.events]
    return made.classifier
