"""Auto-PGD (Croce & Hein 2020, section 3): momentum, and a step size that adapts to each example."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor

from robust_transfer import losses
from robust_transfer.attacks.base import ATTACKS, Attack, BestSoFar, highest
from robust_transfer.attacks.victim import Victim
from robust_transfer.config import config
from robust_transfer.errors import ConfigError
from robust_transfer.threat import Threat

MOMENTUM, ENOUGH = 0.75, 0.75  # alpha and rho of the paper's Algorithm 1
# Shares of the steps: the first checkpoint, by how much the intervals shrink, the least interval.
FIRST, LESS, LEAST = 0.22, 0.03, 0.06


@dataclass
class Climb:
    """State of the climbs of surviving examples; one row per climb in every tensor.

    ``rows`` are the examples' positions in the batch, ``aim`` is what the loss takes in place of labels. ``size`` is
    the step in pixels, ``rises`` the number of steps since the last checkpoint that raised the loss.
    """

    rows: Tensor
    clean: Tensor
    labels: Tensor
    aim: Tensor
    at: Tensor
    before: Tensor
    size: Tensor
    value: Tensor
    rises: Tensor
    best: Tensor
    best_value: Tensor
    best_gradient: Tensor
    checked_value: Tensor
    halved: Tensor

    @classmethod
    def begin(cls, rows: Tensor, clean: Tensor, labels: Tensor, aim: Tensor, start: Tensor, eps: float) -> Climb:
        """Start at ``start`` with steps of twice ``eps``; the loss is not known yet."""
        low = torch.full((len(rows),), -torch.inf, device=clean.device)
        none = torch.zeros(len(rows), dtype=torch.bool, device=clean.device)
        return cls(
            rows=rows,
            clean=clean,
            labels=labels,
            aim=aim,
            at=start,
            before=start,
            size=torch.full_like(low, 2 * eps),
            value=low,
            rises=none.long(),
            best=start,
            best_value=low,
            best_gradient=torch.zeros_like(start),
            checked_value=low,
            halved=none,
        )

    def keep(self, mask: Tensor) -> None:
        """Drop all other examples."""
        if not mask.all():
            for field in fields(self):
                setattr(self, field.name, getattr(self, field.name)[mask])

    def note(self, value: Tensor, gradient: Tensor) -> None:
        """Store the loss and its gradient at ``at``."""
        self.rises = self.rises + ((value > self.value) & ~self.value.isneginf())
        self.value = value
        better = value > self.best_value
        where = better.view(-1, 1, 1, 1)
        self.best = torch.where(where, self.at, self.best)
        self.best_gradient = torch.where(where, gradient, self.best_gradient)
        self.best_value = torch.where(better, value, self.best_value)

    def check(self, interval: int) -> Tensor:
        """Halve the step and return to the best point, for climbs whose last ``interval`` steps brought too little."""
        stalled = self.rises < ENOUGH * interval
        unchanged = ~self.halved & (self.best_value <= self.checked_value)
        self.halved = stalled | unchanged
        self.size = torch.where(self.halved, self.size / 2, self.size)
        self.at = torch.where(self.halved.view(-1, 1, 1, 1), self.best, self.at)
        self.checked_value, self.rises = self.best_value, torch.zeros_like(self.rises)
        return self.halved

    def step(self, value: Tensor, gradient: Tensor, threat: Threat, number: int, intervals: dict[int, int]) -> None:
        """One Auto-PGD update: projected step along ``gradient`` plus momentum; ``value`` is the loss at ``at``."""
        self.note(value, gradient)
        if number in intervals:
            halved = self.check(intervals[number])
            gradient = torch.where(halved.view(-1, 1, 1, 1), self.best_gradient, gradient)
        momentum = MOMENTUM if number else 1.0
        ahead = threat.project(self.at + self.size.view(-1, 1, 1, 1) * threat.steepest(gradient), self.clean)
        moved = self.at + momentum * (ahead - self.at) + (1 - momentum) * (self.at - self.before)
        self.before, self.at = self.at, threat.project(moved, self.clean)


def step_checkpoints(steps: int) -> dict[int, int]:
    """Steps at which progress is checked, each with the number of steps since the previous check."""
    interval, least, less = (max(int(share * steps), 1) for share in (FIRST, LEAST, LESS))
    found, at = {}, 0
    while at + interval < steps:
        at += interval
        found[at] = interval
        interval = max(interval - less, least)
    return found


def climb(
    target: Victim,
    climbs: Climb,
    loss: losses.Loss,
    threat: Threat,
    steps: int,
    worst: BestSoFar,
    guide: Victim | None = None,
    every: int = 1,
    trial: int | None = None,
    finalists: int = 1,
) -> Tensor:
    """``steps`` steps of Auto-PGD; offers every iterate to ``worst`` and returns the rows of surviving examples.

    With a ``guide`` the guide's loss is climbed, and every ``every``-th iterate is scored by ``target``. An example
    may have several rows, each with its own aim: a break on one row ends them all, and after ``trial`` steps only the
    ``finalists`` with the highest loss go on.
    """
    intervals = step_checkpoints(steps)
    for step in range(steps):
        if step == trial:
            climbs.keep(highest(climbs.rows, climbs.best_value, finalists))
        output, gradient = (guide or target).gradient(climbs.at, climbs.aim, loss)
        if guide is None or step % every == 0:
            standing = _score(target, climbs, output if guide is None else target.logits(climbs.at), worst)
            if not len(climbs.rows):
                return climbs.rows
            output, gradient = output[standing], gradient[standing]
        climbs.step(loss(output, climbs.aim).detach(), gradient, threat, step, intervals)
    _score(target, climbs, target.logits(climbs.at), worst)  # the last iterate: no gradient needed
    return climbs.rows


def _score(target: Victim, climbs: Climb, logits: Tensor, worst: BestSoFar) -> Tensor:
    # An example may be climbed from several starts at once: where one of them breaks it, all of its rows leave.
    broken, score = target.judge(climbs.at, climbs.labels, logits)
    worst.update(climbs.rows, climbs.at, broken, score)
    standing = ~torch.isin(climbs.rows, climbs.rows[broken])
    climbs.keep(standing)
    return standing


@ATTACKS.register("apgd", summary="Auto-PGD: PGD with an adaptive step size", paper="Croce & Hein 2020, section 3")
@config
class APGD(Attack):
    """``steps`` steps of Auto-PGD from a random start, ``restarts`` times, on the surviving examples.

    ``loss`` is ce, margin, probability or dlr (with fewer than 3 classes, where it is undefined, dlr is the margin).
    """

    steps: int = 100
    restarts: int = 1
    loss: str = "ce"

    count: ClassVar[str | None] = "steps"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1 or self.restarts < 1:
            raise ConfigError("apgd needs at least 1 step and 1 restart")
        losses.get_loss(self.loss)

    def run(self, target: Victim, x: Tensor, labels: Tensor, ids: Tensor, threat: Threat, seed: int) -> Tensor:
        """Return, per example, a breaking iterate or else the one with the largest margin."""
        worst, rows = BestSoFar(x), torch.arange(len(x), device=x.device)
        loss, aim = losses.settle(losses.get_loss(self.loss), lambda: target.guess(x), labels)
        for restart in range(self.restarts):
            purpose = f"apgd/{self.loss}"
            start = threat.random_start(x[rows], ids[rows], seed=seed, purpose=purpose, restart=restart)
            climbs = Climb.begin(rows, x[rows], labels[rows], aim[rows], start, threat.eps)
            rows = climb(target, climbs, loss, threat, self.steps, worst)
            if not len(rows):
                break
        return worst.images
