"""Base of the strategies that make a curve: measure each point on val, and select an operating point."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from robust_transfer import tracking
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.cost import Cost
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.files import append_line, write_text
from robust_transfer.launch import is_main_process
from robust_transfer.mixture import mixed_head
from robust_transfer.monitor import Validation, validation_attack
from robust_transfer.production import Produced
from robust_transfer.run import Run
from robust_transfer.statistics.intervals import Proportion, wilson
from robust_transfer.statistics.operating_point import OperatingPoint
from robust_transfer.strategies.base import STRATEGIES, Strategy
from robust_transfer.strategies.inner import inside
from robust_transfer.threat import Threat

FRONTIER_PLOT = "frontier.svg"


@dataclass(frozen=True)
class Candidate:
    """One point of a curve: its accuracies on val, and its network.

    ``settings`` tell it from the others of its kind (None: it has no such setting). An ``anchor`` is made of the source's
    features as they are: robust accuracy is kept relative to the most robust anchor.
    """

    kind: str
    settings: dict[str, float | None]
    clean: float
    robust: float
    classifier: Classifier
    anchor: bool = False

    def __str__(self) -> str:
        return ", ".join(parts(self.record()))

    @property
    def series(self) -> str:
        """Line of a figure that the point is on: all but the last of its settings."""
        return series(self.record())

    def record(self) -> dict[str, Any]:
        """For the card and the log."""
        figures = {"val_clean_accuracy": self.clean, "val_robust_accuracy": self.robust}
        return {"kind": self.kind, **self.settings, **figures}


def parts(record: Mapping[str, Any]) -> list[str]:
    """Kind and settings of a candidate's record, in words."""
    settings = {name: value for name, value in record.items() if name != "kind" and not name.startswith("val_")}
    return [str(record["kind"]), *(f"{name} = {value:g}" for name, value in settings.items() if value is not None)]


def series(record: Mapping[str, Any]) -> str:
    """Line of a figure that a candidate's record is on: all but the last of its settings."""
    kind, *settings = parts(record)
    return ", ".join([kind, *settings[:-1]])


@config
class Curve(Strategy):
    """Base of the strategies that make several networks and keep one of them. Subclasses implement :meth:`walk`.

    Clean and PGD-10 accuracy of each on val (mixtures are also attacked through both networks). The point that is kept: the
    most accurate of those that keep a share ``keep`` of the robust accuracy that the source's features have as they are; or,
    where ``clean`` is given, the most robust of those that are at least so accurate. ``frontier.svg`` shows them all.
    """

    keep: float = 0.9
    clean: float | None = None

    def __post_init__(self) -> None:
        super_init = getattr(super(), "__post_init__", None)
        if super_init is not None:
            super_init()
        self._point()

    def _point(self) -> OperatingPoint:
        return OperatingPoint(keep=self.keep, clean=self.clean)

    def check(self, source: Checkpoint, task: Task) -> None:
        """Refuse a task without val, and a source without a threat."""
        name = STRATEGIES.name_of(type(self))
        if not len(task.val):
            raise ConfigError(f"{name} selects on val, and there is none: give --val, or more shots")
        if source.card.threat is None:
            raise ConfigError(f"{name} needs a source with a threat on its card: there is no robustness to keep")

    @abstractmethod
    def walk(self, front: Front, source: Checkpoint, task: Task, run: Run) -> None:
        """Make the points and :meth:`Front.add` them; what that costs is added to ``front.cost``."""

    def adapt(self, source: Checkpoint, task: Task, run: Run) -> Produced:
        """Make all points, and keep the one that is asked for."""
        assert source.card.threat is not None  # check has refused it
        front = Front(task, source.card.threat, run)
        self.walk(front, source, task, run)
        chosen, criterion = self.operating_point(front.found)
        front.finish(chosen)
        return Produced(
            classifier=chosen.classifier,
            criterion=f"{criterion}; accuracies are weighted" if task.measure else criterion,
            metrics={
                "chosen": chosen.record(),
                "front": [candidate.record() for candidate in front.found],
                "val_attack": self.attack(front.found),
                **front.notes,
            },
            events=tuple(front.events),
            cost=front.cost + front.validation.cost,
        )

    def operating_point(self, found: list[Candidate]) -> tuple[Candidate, str]:
        """Point that is asked for, and the criterion in words."""
        anchors = [c for c in found if c.anchor] or found
        most = max(anchors, key=lambda c: c.robust)
        row, met = self._point().select([(c.clean, c.robust) for c in found], most.robust)
        best = found[row]
        if self.clean is not None and not met:
            return best, f"no point has a clean accuracy of {self.clean:g} on val: the most accurate, {best}"
        if self.clean is not None:
            return (
                best,
                f"most robust on val ({self.attack(found)}) of those with a clean accuracy of at least {self.clean:g}: {best}",
            )
        return (
            best,
            f"most accurate on val of those with at least {self.keep:g} of the best {most.kind}'s robust accuracy "
            f"({self.attack(found)}): {best}",
        )

    @staticmethod
    def attack(found: Sequence[Candidate]) -> str:
        """Attack that the points were measured by, in words."""
        return validation_attack(mixtures=any(mixed_head(candidate.classifier) is not None for candidate in found))


class Front:
    """Points of a curve as they are found: measured on val, logged, and in the end drawn."""

    def __init__(self, task: Task, threat: Threat, run: Run) -> None:
        self.task, self.threat, self.run = task, threat, run
        self.validation = Validation(task.val, threat, run)
        self.found, self.events, self.cost = list[Candidate](), list[str](), Cost()
        self.notes = dict[str, Any]()  # for the card
        self._log = run.out / "metrics.jsonl" if run.out is not None and is_main_process() else None

    def add(self, kind: str, classifier: Classifier, *, anchor: bool = False, **settings: float | None) -> Candidate:
        """Measure one point; its network is kept on the CPU."""
        figures = self.validation(classifier.to(self.run.torch_device()))
        clean, robust = figures["clean_accuracy"], figures["robust_accuracy"]
        candidate = Candidate(kind, settings, clean, robust, classifier.cpu(), anchor)
        if self._log is not None and not self.found:
            write_text(self._log, "")  # not before: what fails before the first point costs an earlier run nothing
        self.found.append(candidate)
        if self._log is not None:
            append_line(self._log, json.dumps(candidate.record()))
        with tracking.within("front"):
            tracking.log({"step": len(self.found), **candidate.record()})
        return candidate

    def inside(self, name: str) -> Run:
        """Run of one training on the way, which goes on where it was interrupted."""
        return inside(self.run, name)

    def finish(self, chosen: Candidate) -> None:
        """Draw all points."""
        if self.run.out is not None and is_main_process():
            write_text(self.run.out / FRONTIER_PLOT, self._plot(chosen))

    def _plot(self, chosen: Candidate) -> str:
        from robust_transfer.drawing.figures import Point, front  # Matplotlib: no other strategy draws
        from robust_transfer.drawing.plots import svg

        task, n = self.task, len(self.validation.val)

        def interval(share: float) -> Proportion:
            if task.measure:  # Wilson's is not that of a weighted share: there is none, then
                return Proportion(share, share, share, n)
            return wilson(round(share * n), n)

        def point(candidate: Candidate) -> Point:
            return Point(str(candidate), interval(candidate.clean), interval(candidate.robust))

        series: dict[str, list[Point]] = {}
        for candidate in self.found:
            series.setdefault(candidate.series, []).append(point(candidate))
        shares = task.val.labels.bincount(task.val.weights)
        constant, what = (
            float(shares.max() / shares.sum()),
            f"{self.threat}, {Curve.attack(self.found)}, {task.measure}val",
        )
        return svg(front(series, chosen=point(chosen), constant=constant, threat=what).figure)
