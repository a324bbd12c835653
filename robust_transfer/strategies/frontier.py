"""Accuracy-robustness frontier: sweep the probe's L2 and LwF's strength, select an operating point on val."""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar, Literal

from typing_extensions import override

from robust_transfer import tracking
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError, DivergedError
from robust_transfer.files import append_line, write_text
from robust_transfer.launch import is_main_process
from robust_transfer.monitor import Validation, validation_passes
from robust_transfer.production import Produced
from robust_transfer.run import Run
from robust_transfer.statistics.intervals import Proportion, wilson
from robust_transfer.strategies.base import STRATEGIES, Strategy
from robust_transfer.strategies.linear_probe import PATH, LinearProbe, Probe
from robust_transfer.strategies.lwf import Distance, LwF
from robust_transfer.strategies.softmax import Solution
from robust_transfer.strategies.trained import TrainingStart
from robust_transfer.threat import Threat
from robust_transfer.training import TrainingSettings
from robust_transfer.training.settings import Augment, Schedule

FRONTIER_PLOT = "frontier.svg"
Kind = Literal["linear-probe", "lwf"]


@dataclass(frozen=True)
class Candidate:
    """One point of the frontier: accuracies on val, and the network."""

    kind: Kind
    l2: float
    strength: float | None
    clean: float
    robust: float
    classifier: Classifier

    def __str__(self) -> str:
        return f"{self.kind}, l2 = {self.l2:g}" + (
            f", strength = {self.strength:g}" if self.strength is not None else ""
        )

    def record(self) -> dict[str, Any]:
        """Record for the card and the log."""
        figures = {"val_clean_accuracy": self.clean, "val_robust_accuracy": self.robust}
        return {"kind": self.kind, "l2": self.l2, "strength": self.strength, **figures}


@STRATEGIES.register(
    "frontier",
    summary="probe over its L2 and LwF over its strength, and a selected point",
    paper="Shafahi et al. 2020, sections 4 and 6",
)
@config
class Frontier(TrainingSettings, Strategy):
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
    keep: float = 0.9
    clean: float | None = None
    path: tuple[float, ...] = PATH
    heads: tuple[float, ...] = (1.0, 0.1)
    strengths: tuple[float, ...] = (0.3, 1.0, 3.0)
    distance: Distance = "l2"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.keep <= 1 or (self.clean is not None and not 0 < self.clean < 1):
            raise ConfigError("keep and clean are shares between 0 and 1")
        LinearProbe(path=self.path)
        for l2, strength in product(self.heads, self.strengths):
            self.lwf(l2, strength)

    def lwf(self, l2: float, strength: float) -> LwF:
        """LwF with this strategy's training settings."""
        return LwF(l2=l2, strength=strength, head="new", distance=self.distance, **self.training())

    @override
    def check(self, source: Checkpoint, task: Task) -> None:
        if not len(task.val):
            raise ConfigError("frontier selects on val, and val is empty: give --val, or more shots")
        self._threat(source)

    def _threat(self, source: Checkpoint) -> Threat:
        if source.card.threat is None:
            raise ConfigError("frontier needs a source with a threat on its card: there is no robustness to keep")
        return source.card.threat

    def passes(self, task: Task) -> float:
        """Forecast: one training per head and strength, and PGD-10 on val for every point."""
        trained, solved = len(self.heads) * len(self.strengths), len({*self.path, *self.heads})
        each = 3.0 * self.images_seen(len(task.train)) + self.epochs * validation_passes(task.val, robust=False)
        looks = (trained + solved) * validation_passes(task.val, robust=True)
        return len(task.train) + len(task.val) + trained * each + looks

    @override
    def adapt(self, source: Checkpoint, task: Task, run: Run) -> Produced:
        threat = self._threat(source)
        validation = Validation(task.val, threat, run)
        path = tuple(sorted({*self.path, *self.heads}, reverse=True))
        probe = LinearProbe(path=path, choose="clean").solve(source, task, run)
        found, cost, events = list[Candidate](), probe.cost, list(probe.notes())
        log = run.out / "metrics.jsonl" if run.out is not None and is_main_process() else None
        if log is not None:
            write_text(log, "")

        def add(kind: Kind, l2: float, strength: float | None, classifier: Classifier) -> None:
            figures = validation(classifier.to(run.torch_device()))
            candidate = Candidate(
                kind, l2, strength, figures["clean_accuracy"], figures["robust_accuracy"], classifier.cpu()
            )
            found.append(candidate)
            if log is not None:
                append_line(log, json.dumps(candidate.record()))
            with tracking.within("front"):
                tracking.log({"step": len(found), **candidate.record()})

        heads = {solution.l2: source.classifier.with_layers(solution.head()) for solution in probe.solutions}
        for l2, classifier in heads.items():
            add("linear-probe", l2, None, classifier.freeze())
        for l2, strength in product(self.heads, self.strengths):
            name = f"l2-{l2:g}-strength-{strength:g}"
            start = _start(probe, heads[l2], next(s for s in probe.solutions if s.l2 == l2))
            try:
                with tracking.within(name):
                    trained = self.lwf(l2, strength).train_from(start, source, task, _inside(run, name))
            except DivergedError as error:
                events.append(f"{name}: {error}")
                continue
            cost += trained.cost
            events += [f"{name}: {event}" for event in trained.events]
            add("lwf", l2, strength, trained.classifier)
        chosen, criterion = self.choose(found)
        if run.out is not None and is_main_process():
            write_text(run.out / FRONTIER_PLOT, _plot(found, chosen, task, threat, len(validation.val)))
            shutil.rmtree(run.out / "front", ignore_errors=True)
        return Produced(
            classifier=chosen.classifier,
            criterion=f"{criterion}; accuracies are weighted" if task.measure else criterion,
            metrics={"chosen": chosen.record(), "front": [candidate.record() for candidate in found]},
            events=tuple(events),
            cost=cost + validation.cost,
        )

    def choose(self, found: list[Candidate]) -> tuple[Candidate, str]:
        """Selected point, and the criterion in words."""
        if self.clean is not None:
            enough = [c for c in found if c.clean >= self.clean]
            if not enough:
                best = max(found, key=lambda c: (c.clean, c.robust))
                return best, f"no point has a clean accuracy of {self.clean:g} on val: the most accurate, {best}"
            best = max(enough, key=lambda c: (c.robust, c.clean))
            return (
                best,
                f"most robust on val (PGD-10) of those with a clean accuracy of at least {self.clean:g}: {best}",
            )
        most = max(c.robust for c in found if c.kind == "linear-probe")
        enough = [c for c in found if c.robust >= self.keep * most]
        best = max(enough, key=lambda c: (c.clean, c.robust))
        return (
            best,
            f"most accurate on val of those with at least {self.keep:g} of the best probe's PGD-10 accuracy: {best}",
        )


def _start(probe: Probe, classifier: Classifier, solution: Solution) -> TrainingStart:
    """Copy of the probe's network at one point of its path, at no further cost."""
    return TrainingStart(
        classifier.copy(),
        f"head warm-started: l2 given as {solution.l2:g}",
        features=probe.features,
        head_penalty=probe.penalty(solution),
    )


def _inside(run: Run, name: str) -> Run:
    """Run of one candidate, which resumes if interrupted."""
    if run.out is None:
        return run
    return dataclasses.replace(run, out=run.out / "front" / name, overwrite=False)


def _plot(found: list[Candidate], chosen: Candidate, task: Task, threat: Threat, n: int) -> str:
    from robust_transfer.drawing.figures import Point, front  # Matplotlib: no other strategy draws
    from robust_transfer.drawing.plots import svg

    def interval(share: float) -> Proportion:
        if task.measure:  # Wilson's is not that of a weighted share: there is none, then
            return Proportion(share, share, share, n)
        return wilson(round(share * n), n)

    def point(candidate: Candidate) -> Point:
        return Point(str(candidate), interval(candidate.clean), interval(candidate.robust))

    series: dict[str, list[Point]] = {}
    for candidate in found:
        name = candidate.kind if candidate.strength is None else f"lwf, l2 = {candidate.l2:g}"
        series.setdefault(name, []).append(point(candidate))
    shares = task.val.labels.bincount(task.val.weights)
    constant, what = float(shares.max() / shares.sum()), f"{threat}, PGD-10, {task.measure}val"
    return svg(front(series, chosen=point(chosen), constant=constant, threat=what).figure)
