"""Production of a checkpoint: the pipeline shared by pretraining and strategies, from an output folder to a saved card."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import NoneType
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from robust_transfer import run_folder, tracking
from robust_transfer.checkpoint import Card, Checkpoint, finished
from robust_transfer.classifier import Classifier
from robust_transfer.config import expect
from robust_transfer.cost import Cost
from robust_transfer.data import Task
from robust_transfer.environment import command_line, environment
from robust_transfer.errors import ConfigError, DataError, DivergedError
from robust_transfer.files import all_or_none, write_bytes
from robust_transfer.launch import is_main_process
from robust_transfer.monitor import refuse_collapse
from robust_transfer.run import Run
from robust_transfer.trained_on import TrainedOn
from robust_transfer.training import state

PATH_FILE = "path.safetensors"


def refuse_hopeless(task: Task) -> None:
    """Raise :class:`DataError` for a task with nothing to learn."""
    if not len(task.train):
        has = f", only {len(task.test)} of test" if len(task.test) else ""
        raise DataError(f"{task.name} has no training images{has}: there is nothing to learn from")
    if len(found := set(task.train.labels.tolist())) < 2:
        name = task.class_names[found.pop()]
        raise DataError(f"all {len(task.train)} training images are of class {name!r}: there is nothing to tell apart")


def refuse_weights(method: type, task: Task) -> None:
    """Raise :class:`ConfigError` where images have weights that ``method`` would ignore.

    A class declares this for itself alone: a subclass may replace the inherited loss by one that ignores weights.
    """
    if task.weighting and not vars(method).get("weighs", False):
        raise ConfigError(
            f"{method.__name__} has no way to weigh classes or images: leave the weights out, or use another"
        )


@dataclass
class Produced:
    """Result of a method: its classifier, and the contents of the card.

    ``path`` holds further tensors to save (a whole L2 path of heads). Not ``judges``: the head's classes are not the task's,
    so nothing follows from what it predicts. The seconds of ``cost`` are those of an
    interrupted run that this one resumed: its own are measured by :func:`produce`.
    """

    classifier: Classifier
    criterion: str
    metrics: dict[str, Any] = field(default_factory=dict)
    events: tuple[str, ...] = ()
    cost: Cost = field(default_factory=Cost)
    path: dict[str, Tensor] = field(default_factory=dict)
    judges: bool = True


def without_test(task: Task) -> Task:
    """``task`` without its test images, which methods must not see."""
    return replace(task, test=task.train.subset(torch.arange(0)))


def check_arguments(run: Run | None, task: Task, **source: Checkpoint) -> None:
    """Raise :class:`ConfigError` for arguments that are not a run, task or checkpoint."""
    for name, given in source.items():
        expect(name, given, Checkpoint, hint="such as load_source('bundled')")
    expect("task", task, Task, hint="such as load_task('builtin:digits')")
    expect("run", run, Run, NoneType, hint="such as Run(seed=1)")


def produce(
    identity: Mapping[str, Any],
    task: Task,
    run: Run,
    prepare: Callable[[], Callable[[], Produced]],
    seen: TrainedOn,
) -> Checkpoint:
    """Make a checkpoint and, with ``run.out`` set, save it there; a finished run of the same ``identity`` is loaded.

    ``identity`` are the card's fields that identify the request. ``seen``: training images of the network and its
    sources. ``prepare`` may refuse before anything is written, and returns the function that makes the classifier.
    Raises :class:`DivergedError` where training does not settle or ends with one class; then only its log is left in
    the folder.
    """
    asked = {**identity, "seed": run.seed, "data": task.train.hash}
    if (done := finished(run, asked)) is not None:
        if run.out is not None and is_main_process():
            with suppress(OSError):  # it may lie where nothing can be removed
                state.discard(run.out)  # the earlier process may have been killed before it did
        return done
    make = prepare()
    out = run.prepare_out()
    title = out.name if out is not None else str(identity["method"])
    record = {**asked, "data": task.record(), "precision": str(run.dtype()).removeprefix("torch.")}
    with tracking.tracked(run.track, out, title=title, configuration=record, resume=run.resume):
        checkpoint = _make(identity, task, run, make, seen)
        tracking.conclude(checkpoint.card.metrics)
    return checkpoint


def _make(
    identity: Mapping[str, Any], task: Task, run: Run, make: Callable[[], Produced], seen: TrainedOn
) -> Checkpoint:
    out = run.out
    started = time.perf_counter()
    try:
        made = make()
        if made.judges:
            refuse_collapse(made.classifier, task.train, run)
    except DivergedError:
        run_folder.begin(out)
        if out is not None and is_main_process():
            state.discard(out)  # going on from there would only diverge again
        raise
    cost = made.cost + Cost(seconds=time.perf_counter() - started)
    checkpoint = Checkpoint(made.classifier.cpu().eval(), _card(identity, made, task, run, cost), seen)
    if out is None or not is_main_process():
        return checkpoint
    with all_or_none(out / PATH_FILE):
        if made.path:
            write_bytes(out / PATH_FILE, save({k: v.contiguous() for k, v in made.path.items()}))
        saved = checkpoint.save(out)
    state.discard(out)
    return saved


def _card(identity: Mapping[str, Any], made: Produced, task: Task, run: Run, cost: Cost) -> Card:
    return Card(
        **{"network": made.classifier.spec, "class_names": task.class_names, **identity},
        criterion=made.criterion,
        metrics=made.metrics,
        events=made.events,
        cost=cost,
        seed=run.seed,
        precision=str(run.dtype()).removeprefix("torch."),
        command=command_line(),
        environment=environment(),
    )
