"""Base of transfer strategies: from a checkpoint and a task to a checkpoint. Strategies get train and val, never test."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import PositiveInt
from typing_extensions import override

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.config import as_dict, config, expect
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError, DivergedError
from robust_transfer.presets import WithPresets
from robust_transfer.production import Produced, check_arguments, produce, refuse_hopeless, refuse_weights, without_test
from robust_transfer.registry import Registry
from robust_transfer.run import Run
from robust_transfer.strategies import inner
from robust_transfer.strategies.reading import read
from robust_transfer.threat import Threat
from robust_transfer.trained_on import trained_on

HeadRule = Literal["auto", "new", "keep"]


@config
class Strategy(WithPresets, ABC):
    """Base of the registered strategies. Subclasses are configurations and implement :meth:`adapt`.

    ``grid`` and ``mirror``: the reading of the source's features (:mod:`.reading`), pooled on ``grid`` x ``grid`` cells,
    and averaged over mirror images.
    """

    quick: ClassVar[dict[str, Any]] = {}  # settings that are cheap, for the contract tests
    adversarial: ClassVar[bool] = False  # whether it trains on adversarial examples
    data_settings: ClassVar[tuple[str, ...]] = ()  # settings that name data, beside the task's
    weighs: ClassVar[bool] = False  # whether it heeds images' weights; each class says so itself, it is not inherited

    grid: PositiveInt = 1
    mirror: bool = False

    @abstractmethod
    def adapt(self, source: Checkpoint, task: Task, run: Run) -> Produced:
        """Learn ``task`` (train and val, at the source's input size) from a copy of ``source``."""

    def check(self, source: Checkpoint, task: Task) -> None:
        """Raise :class:`ConfigError` for a source and task that cannot work; called before any file is written or removed."""

    def passes(self, task: Task) -> float:
        """Forecast of the forward-equivalent image passes of :meth:`adapt`. Default: one pass over all images."""
        return float(len(task.train))

    def forecast(self, task: Task) -> float:
        """Forecast of the image passes of the whole transfer: a mirrored network makes two of one."""
        return self.passes(task) * (1 + self.mirror)

    def threat_of(self, source: Checkpoint) -> Threat | None:
        """Threat on the result's card: inherited from the source."""
        return source.card.threat

    def read(self, source: Checkpoint) -> Checkpoint:
        """``source`` with its features as ``grid`` and ``mirror`` say."""
        return read(source, self.grid, self.mirror)

    @classmethod
    @override
    def described(cls) -> str:
        return f"strategy {STRATEGIES.name_of(cls)!r}"

    def __call__(self, source: Checkpoint, task: Task, *, run: Run | None = None) -> Checkpoint:
        """Adapt and, with ``run.out`` set, save. The source is not changed.

        Raises :class:`DivergedError` where training does not settle; then only its log is left in the folder.
        """
        check_arguments(run, task, source=source)
        run = run or Run()
        with run.at_work():
            run.check_out()
            refuse_hopeless(task)
            refuse_weights(type(self), task)
            if run.out is not None:
                source.refuse_unsavable()
            read = self.read(source)
            self.check(read, task)
            task = without_test(task).prepared(source.preprocessing)
            seen = trained_on(task, source.trained_on, transferred=True)
            try:
                made = produce(
                    self._identity(source, task), task, run, lambda: lambda: self._make(read, task, run), seen
                )
            except DivergedError:
                inner.discard(run)
                raise
            inner.discard(run)  # not before the result is saved: a kill in between would cost all of it
            return made

    def _make(self, read: Checkpoint, task: Task, run: Run) -> Produced:
        made = self.adapt(read, task, run)
        return replace(made, cost=replace(made.cost, passes=made.cost.passes * (1 + self.mirror)))

    def _identity(self, source: Checkpoint, task: Task) -> dict[str, Any]:
        """Card's fields that identify the request; a finished run with the same ones is not trained again."""
        return {
            "method": f"transfer:{STRATEGIES.name_of(type(self))}",
            "settings": as_dict(self),
            "threat": self.threat_of(source),
            "data": task.record(),
            "source": source.provenance,
        }


def keeps_head(source: Checkpoint, task: Task, rule: HeadRule) -> bool:
    """True if the source's head is kept: ``auto`` keeps it iff its class names are the task's, in any order."""
    if source.headless:
        if rule == "keep":
            raise ConfigError("head=keep needs a head, and the source is a feature extractor without one: use head=new")
        return False
    same = sorted(source.card.class_names) == sorted(task.class_names)
    if rule == "keep" and source.card.network.num_classes != task.num_classes:
        raise ConfigError(
            f"head=keep needs as many classes as the source has ({source.card.network.num_classes}), "
            f"the data has {task.num_classes}: use head=new"
        )
    return rule == "keep" or (rule == "auto" and same)


def transfer(source: Checkpoint, task: Task, strategy: Strategy, *, run: Run | None = None) -> Checkpoint:
    """``strategy(source, task, run=run)``: the public name of the step from a source to a result."""
    expect("strategy", strategy, Strategy, hint="such as LinearProbe()")
    return strategy(source, task, run=run)


STRATEGIES: Registry[Strategy] = Registry("strategy", group="robust_transfer.strategies")
