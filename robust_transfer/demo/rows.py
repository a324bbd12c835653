"""Rows of the demo: strategies from a robust source, the same from a natural one, and training from scratch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from rich.console import Console

from robust_transfer.checkpoint import Card, Checkpoint
from robust_transfer.config import as_dict
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError, DivergedError
from robust_transfer.evaluation import Evaluation, evaluate
from robust_transfer.evaluation.deltas import DELTAS
from robust_transfer.files import read_table
from robust_transfer.heads import HeadSpec
from robust_transfer.pretraining.base import Pretraining
from robust_transfer.pretraining.natural import Natural
from robust_transfer.pretraining.pgd_at import PGDAT
from robust_transfer.run import Run
from robust_transfer.strategies import FineTune, LinearProbe, LwF, Strategy
from robust_transfer.threat import Threat

Group = Literal["source", "control", "scratch"]
ATTACK = "pgd-20"
STRATEGIES: dict[str, Strategy] = {
    "linear-probe": LinearProbe(),
    "fine-tune": FineTune(head="new"),
    "lwf": LwF(head="new"),
}
# Training from scratch: small batches, and few images are shown more often, so that it comes to an end.
BATCH, EPOCHS, SHOWN = 16, 8, 1600


def from_scratch(images: int) -> dict[str, Pretraining]:
    """Baselines without a source, by name: at least 8 epochs over ``images``, and 1,600 images shown in all."""
    epochs = max(EPOCHS, SHOWN / images)
    return {
        "natural training": Natural(epochs=epochs, batch_size=BATCH),
        "adversarial training": PGDAT(epochs=epochs, batch_size=BATCH, steps=2, step=0.5),
    }


@dataclass(frozen=True)
class Contender:
    """Row before its measurement; ``make`` trains its network on the task's train and val splits."""

    group: Group
    name: str
    make: Callable[[Run], Checkpoint]


@dataclass(frozen=True)
class Row:
    """Measured row of the table; ``deltas`` holds the adversarial images to show."""

    group: Group
    name: str
    card: Card
    evaluation: Evaluation
    seconds: float
    deltas: pd.DataFrame | None

    def figures(self) -> dict[str, Any]:
        """Table cells: group, name, clean and robust as ``{value, low, high, n}``, and the cost of training.

        ``cost`` is in forward-equivalent image passes.
        """
        return {
            "group": self.group,
            "name": self.name,
            "clean": as_dict(self.evaluation.clean_accuracy),
            "robust": as_dict(self.evaluation.robust_accuracy),
            "seconds": self.seconds,
            "cost": self.card.cost.passes,
            "adversarial_examples": self.card.cost.adversarial_examples,
        }


def check_control(source: Checkpoint, control: Checkpoint) -> None:
    """Raise :class:`ConfigError` for a control that is not a naturally trained network of the source's shape."""
    if control.card.threat is not None:
        raise ConfigError(f"the control was trained for {control.card.threat}: give a naturally trained network")
    mine, its = (f"{c.card.network.name} at {c.input_size} pixels" for c in (source, control))
    if mine != its:
        raise ConfigError(f"the control is a {its} and the source a {mine}: give one of the same shape")
    mine, its = (str(c.preprocessing.geometry) for c in (source, control))
    if mine != its:
        raise ConfigError(
            f"the control reads images after {its} and the source after {mine}: give one that reads the same"
        )


def contenders(
    source: Checkpoint, control: Checkpoint | None, task: Task, threat: Threat, *, scratch: bool
) -> list[Contender]:
    """Contenders on ``task``, in the order of the table; without a ``control`` its group is left out."""
    found = []
    starts: tuple[tuple[Group, Checkpoint | None], ...] = (("source", source), ("control", control))
    for group, start in starts:
        for name, strategy in STRATEGIES.items() if start is not None else ():
            found.append(Contender(group, name, _adapting(strategy, start, task)))
    for name, method in from_scratch(len(task.train)).items() if scratch else ():
        found.append(Contender("scratch", name, _training(method, source, task, threat)))
    return found


def measure(
    wanted: Sequence[Contender], task: Task, threat: Threat, *, examples: int, run: Run, folder: Path
) -> tuple[list[Row], dict[str, str]]:
    """Train and attack all contenders on the same test images; also returns reasons for failed training from scratch.

    The adversarial images of each group's first row are kept. ``folder`` is for temporary files.
    """
    console = Console(stderr=True, quiet=run.quiet)
    rows, failed, shown = list[Row](), dict[str, str](), set[Group]()
    for number, one in enumerate(wanted):
        console.print(f"{one.group}, {one.name}: training on {len(task.train)} images ...")
        inner, started = replace(run, out=None, overwrite=False, cache=folder / "shared"), time.perf_counter()
        try:
            made = one.make(inner)
        except DivergedError as error:
            if one.group != "scratch":
                raise
            failed[one.name] = str(error)
            continue
        seconds = time.perf_counter() - started
        console.print(f"{one.group}, {one.name}: attacking {min(examples, len(task.test))} test images ...")
        keep, out = one.group not in shown, folder / str(number)
        measured = evaluate(
            made, task.test, threat=threat, attack=ATTACK, examples=examples, run=replace(inner, out=out),
            transfer_attack_examples=0, red_flag_examples=0, keep_deltas=keep,
        )  # fmt: skip
        deltas = read_table(out / DELTAS) if keep else None
        shown.add(one.group)
        rows.append(Row(one.group, one.name, made.card, measured, seconds, deltas))
    return rows, failed


def _adapting(strategy: Strategy, start: Checkpoint | None, task: Task) -> Callable[[Run], Checkpoint]:
    assert start is not None
    return lambda run: strategy(start, task, run=run)


def _training(method: Pretraining, like: Checkpoint, task: Task, threat: Threat) -> Callable[[Run], Checkpoint]:
    """Training without val: nothing is selected, and attacking val after every epoch would cost more than the training."""
    task = replace(task, val=task.val.subset(torch.arange(0)))
    spec = replace(like.card.network, num_classes=task.num_classes, head=HeadSpec())
    return lambda run: method(task, network=spec, threat=threat, run=run)
