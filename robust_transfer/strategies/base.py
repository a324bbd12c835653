"""The base of transfer strategies: a checkpoint and a task to a checkpoint. Strategies get train and val, never test."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from safetensors.torch import save_file
from torch import Tensor

from robust_transfer.checkpoint import Card, Checkpoint, finished
from robust_transfer.classifier import Classifier
from robust_transfer.config import as_dict, build, config
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError, DataError, DivergedError
from robust_transfer.registry import Registry, unknown
from robust_transfer.run import Run, all_or_none, command_line, environment, is_main_process, write_atomically
from robust_transfer.trained_on import trained_on
from robust_transfer.training import state
from robust_transfer.validation import refuse_collapse

PATH_FILE = "path.safetensors"
HeadRule = Literal["auto", "new", "keep"]


@dataclass
class Adapted:
    """What a strategy made: the classifier, and what its card must tell.

    ``cost`` in forward-equivalent image passes; ``path`` holds further tensors worth keeping (a whole L2 path of heads);
    ``seconds_before`` is what an interrupted run had spent that this one went on with.
    """

    classifier: Classifier
    criterion: str
    metrics: dict[str, Any] = field(default_factory=dict)
    events: tuple[str, ...] = ()
    cost: float = 0.0
    adversarial_examples: int = 0
    path: dict[str, Tensor] = field(default_factory=dict)
    seconds_before: float = 0.0


@config
class Strategy(ABC):
    """Base of the registered strategies. Subclasses are configurations and implement :meth:`adapt`."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    adversarial: ClassVar[bool] = False  # whether it trains on adversarial examples

    @abstractmethod
    def adapt(self, source: Checkpoint, task: Task, run: Run) -> Adapted:
        """Learn ``task`` (train and val, at the source's input size) from a copy of ``source``."""

    def check(self, source: Checkpoint, task: Task) -> None:  # noqa: B027 (most have nothing to add)
        """Refuse, by :class:`ConfigError`, what cannot work; called before any file is written or removed."""

    def threat_of(self, source: Checkpoint) -> str | None:
        """The threat that the result withstands, if it does: it inherits the source's."""
        return source.card.threat

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Build from loose settings, as the command line has them; ``preset=NAME`` gives defaults that others override."""
        what = f"strategy {STRATEGIES.name_of(cls)!r}"
        chosen = dict(settings)
        name = chosen.pop("preset", None)
        if name is not None:
            if not isinstance(name, str) or name not in cls.presets:
                known = list(cls.presets)
                raise ConfigError(unknown(f"preset of {what}", str(name), known) if known else f"{what} has no presets")
            chosen = {**cls.presets[name], **chosen}
        return build(cls, chosen, what)

    def __call__(self, source: Checkpoint, task: Task, *, run: Run | None = None) -> Checkpoint:
        """Adapt and, with ``run.out`` set, save. The source is not changed.

        Raises :class:`DivergedError` where training does not settle; then nothing but its log is left in the folder.
        """
        run = run or Run()
        run.check_out()
        _refuse_hopeless(task)
        self.check(source, task)
        # Not even an empty part of test: what the strategy gets has no way to it.
        task = replace(task, test=task.train.subset(torch.arange(0))).at_size(source.input_size)
        asked = {**self._identity(source, task), "seed": run.seed, "data": task.train.hash}
        if (done := finished(run, asked)) is not None:
            return done
        out = run.prepare_out()
        started = time.perf_counter()
        try:
            adapted = self.adapt(source, task, run)
            refuse_collapse(adapted.classifier, task.train, run)
        except DivergedError:
            if out is not None and is_main_process():
                state.discard(out)  # going on from there would only diverge again
            raise
        card = self._card(adapted, source, task, run, adapted.seconds_before + time.perf_counter() - started)
        seen = trained_on(task, source.trained_on, transferred=True)
        checkpoint = Checkpoint(adapted.classifier.cpu().eval(), card, seen)
        if out is None or not is_main_process():
            return checkpoint
        with all_or_none(out / PATH_FILE):
            if adapted.path:
                write_atomically(out / PATH_FILE, lambda path: _save(adapted.path, path))
            saved = checkpoint.save(out)
        state.discard(out)
        return saved

    def _identity(self, source: Checkpoint, task: Task) -> dict[str, Any]:
        """The card's fields that say what was asked for; a finished run with the same ones is not trained again."""
        return {
            "method": f"transfer:{STRATEGIES.name_of(type(self))}",
            "settings": as_dict(self),
            "threat": self.threat_of(source),
            "data": task.record(),
            "source": lineage(source),
        }

    def _card(self, adapted: Adapted, source: Checkpoint, task: Task, run: Run, seconds: float) -> Card:
        return Card(
            **self._identity(source, task),
            network=adapted.classifier.spec,
            class_names=task.class_names,
            criterion=adapted.criterion,
            metrics=adapted.metrics,
            events=adapted.events,
            cost=adapted.cost,
            adversarial_examples=adapted.adversarial_examples,
            seconds=seconds,
            seed=run.seed,
            precision=str(run.dtype()).removeprefix("torch."),
            command=command_line(),
            environment=environment(),
        )


def lineage(source: Checkpoint) -> dict[str, Any]:
    """What the card says of a source, and of the sources it came from in turn."""
    card = source.card
    own = {"method": card.method, "data": card.data.get("name"), "weights": source.hash}
    return own if card.source is None else {**own, "source": card.source}


def _refuse_hopeless(task: Task) -> None:
    if not len(task.train):
        raise DataError("the train split is empty: there is nothing to learn from")
    if len(found := set(task.train.labels.tolist())) < 2:
        name = task.class_names[found.pop()]
        raise DataError(f"all {len(task.train)} training images are of class {name!r}: there is nothing to tell apart")


def keeps_head(source: Checkpoint, task: Task, rule: HeadRule) -> bool:
    """Whether the source's head is kept: ``auto`` keeps it iff its class names are the task's, in any order."""
    same = sorted(source.card.class_names) == sorted(task.class_names)
    if rule == "keep" and source.card.network.num_classes != task.num_classes:
        raise ConfigError(
            f"head=keep needs as many classes as the source has ({source.card.network.num_classes}), "
            f"the data has {task.num_classes}: use head=new"
        )
    return rule == "keep" or (rule == "auto" and same)


def transfer(source: Checkpoint, task: Task, strategy: Strategy, *, run: Run | None = None) -> Checkpoint:
    """``strategy(source, task, run=run)``: the public name of the step from a source to a result."""
    return strategy(source, task, run=run)


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    save_file({k: v.contiguous() for k, v in tensors.items()}, str(path))


STRATEGIES: Registry[Strategy] = Registry("strategy")
