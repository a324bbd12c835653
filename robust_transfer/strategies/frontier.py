"""Accuracy-robustness frontier: sweep the probe's L2 and LwF's strength, select an operating point on val."""

from __future__ import annotations

from itertools import product
from typing import Any, ClassVar

from typing_extensions import override

from robust_transfer import tracking
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.data import Task
from robust_transfer.errors import DivergedError
from robust_transfer.monitor import validation_passes
from robust_transfer.run import Run
from robust_transfer.strategies.base import STRATEGIES
from robust_transfer.strategies.curve import Curve, Front
from robust_transfer.strategies.feature_distance import Distance
from robust_transfer.strategies.linear_probe import PATH, LinearProbe, Probe
from robust_transfer.strategies.lwf import LwF
from robust_transfer.strategies.softmax import Solution
from robust_transfer.strategies.trained import TrainingStart
from robust_transfer.training import TrainingSettings
from robust_transfer.training.settings import Augment, Schedule


@STRATEGIES.register(
    "frontier",
    summary="probe over its L2 and LwF over its strength, and a selected point",
    paper="Shafahi et al. 2020, sections 4 and 6",
)
@config
class Frontier(Curve, TrainingSettings):
    """Frontier of the probe's L2 ``path``, and of LwF from each of the ``heads`` (L2) at each of the ``strengths``.

    All start from the same features; clean and PGD-10 accuracy of each point are measured on val. Selected is the
    most accurate point with at least a share ``keep`` of the most robust probe's robust accuracy; or, where ``clean``
    is given, the most robust point with at least that clean accuracy. ``frontier.svg`` shows them all. The other
    settings are those of LwF's training.
    """

    weighs: ClassVar[bool] = True
    quick: ClassVar[dict[str, Any]] = {"epochs": 1, "path": (1.0, 0.1), "heads": (0.1,), "strengths": (1.0,)}

    epochs: float = 4.0
    learning_rate: float = 2e-3
    weight_decay: float = 2e-4
    schedule: Schedule = "cosine"
    augment: Augment = False
    path: tuple[float, ...] = PATH
    heads: tuple[float, ...] = (1.0, 0.1)
    strengths: tuple[float, ...] = (0.3, 1.0, 3.0)
    distance: Distance = "l2"

    def __post_init__(self) -> None:
        super().__post_init__()
        LinearProbe(path=self.path)
        for l2, strength in product(self.heads, self.strengths):
            self.lwf(l2, strength)

    def lwf(self, l2: float, strength: float) -> LwF:
        """LwF with this strategy's training settings."""
        return LwF(l2=l2, strength=strength, head="new", distance=self.distance, **self.training())

    def passes(self, task: Task) -> float:
        """Forecast: one training per head and strength, and PGD-10 on val for every point."""
        trained, solved = len(self.heads) * len(self.strengths), len({*self.path, *self.heads})
        each = 3.0 * self.images_seen(len(task.train)) + self.epochs * validation_passes(task.val, robust=False)
        looks = (trained + solved) * validation_passes(task.val, robust=True)
        return len(task.train) + len(task.val) + trained * each + looks

    @override
    def walk(self, front: Front, source: Checkpoint, task: Task, run: Run) -> None:
        path = tuple(sorted({*self.path, *self.heads}, reverse=True))
        probe = LinearProbe(path=path, choose="clean").solve(source, task, run)
        front.cost += probe.cost
        front.events += probe.notes()
        heads = {solution.l2: source.classifier.with_layers(solution.head()) for solution in probe.solutions}
        for l2, classifier in heads.items():
            front.add("linear-probe", classifier.freeze(), anchor=True, l2=l2, strength=None)
        for l2, strength in product(self.heads, self.strengths):
            name = f"l2-{l2:g}-strength-{strength:g}"
            start = _start(probe, heads[l2], next(s for s in probe.solutions if s.l2 == l2))
            try:
                with tracking.within(name):
                    trained = self.lwf(l2, strength).train_from(start, source, task, front.inside(name))
            except DivergedError as error:
                front.events.append(f"{name}: {error}")
                continue
            front.cost += trained.cost
            front.events += [f"{name}: {event}" for event in trained.events]
            front.add("lwf", trained.classifier, l2=l2, strength=strength)


def _start(probe: Probe, classifier: Classifier, solution: Solution) -> TrainingStart:
    """Copy of the probe's network at one point of its path, at no further cost."""
    return TrainingStart(
        classifier.copy(),
        f"head warm-started: l2 given as {solution.l2:g}",
        features=probe.features,
        head_penalty=probe.penalty(solution),
    )
