"""Projected gradient descent (Madry et al. 2018, section 2.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from robust_transfer import losses
from robust_transfer.attacks.base import ATTACKS, Attack, BestSoFar
from robust_transfer.attacks.victim import Victim
from robust_transfer.config import config
from robust_transfer.errors import ConfigError
from robust_transfer.threat import Threat


@dataclass
class _Standing:
    """Examples not broken yet: rows in the batch, clean images, labels and current iterates."""

    rows: Tensor
    clean: Tensor
    labels: Tensor
    current: Tensor

    def keep(self, mask: Tensor) -> None:
        """Drop all other examples."""
        self.rows, self.clean, self.labels = self.rows[mask], self.clean[mask], self.labels[mask]
        self.current = self.current[mask]


@ATTACKS.register("pgd", summary="projected gradient ascent, every iterate scored", paper="Madry et al. 2018")
@config
class PGD(Attack):
    """``steps`` steps of ``step * eps`` along the steepest direction, from a random start, ``restarts`` times.

    Every iterate is scored (the start and the last one too) and an example leaves the batch once it is broken, so more
    restarts never help the model, nor do more steps of the same kind. ``loss`` is ce, margin, dlr or probability. ``step``
    is in units of eps. Without ``random_start`` the first start is the clean image; restarts begin at random all the same.
    With ``then`` the second half of the steps climbs another loss, from where the first half has come to. A ``cosine``
    schedule lets the steps shrink from ``step`` to almost nothing, as half a wave, as A3 does (Liu et al. 2022).
    """

    steps: int = 20
    step: float = 0.25
    restarts: int = 1
    loss: str = "ce"
    then: str | None = None
    schedule: Literal["constant", "cosine"] = "constant"
    random_start: bool = True

    count: ClassVar[str | None] = "steps"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1 or self.restarts < 1:
            raise ConfigError("pgd needs at least 1 step and 1 restart")
        if self.step <= 0:
            raise ConfigError(f"pgd's step is a positive multiple of eps, not {self.step}")
        for loss in (self.loss, self.then or self.loss):
            losses.get_loss(loss)

    def run(self, target: Victim, x: Tensor, labels: Tensor, ids: Tensor, threat: Threat, seed: int) -> Tensor:
        """Return, per example, a breaking iterate or else the one with the largest margin."""
        worst = BestSoFar(x)
        rows = torch.arange(len(x), device=x.device)
        for restart in range(self.restarts):
            start = clean = x[rows]
            if moved := self.random_start or restart > 0:
                # the losses start apart: together they cover more of the ball
                purpose = f"pgd/{self.loss}"
                start = threat.random_start(clean, ids[rows], seed=seed, purpose=purpose, restart=restart)
            rows = self._climb(target, _Standing(rows, clean, labels[rows], start), threat, worst, score_start=moved)
            if not len(rows):
                break
        return worst.images

    def _climb(self, target: Victim, alive: _Standing, threat: Threat, worst: BestSoFar, score_start: bool) -> Tensor:
        """One restart; offers every iterate to ``worst`` and returns the rows of surviving examples."""
        for step in range(self.steps):
            logits, gradient = target.gradient(alive.current, alive.labels, self._loss(step))
            if step or score_start:
                standing = self._score(target, alive, logits, worst)
                if not len(alive.rows):
                    return alive.rows
                gradient = gradient[standing]
            alive.current = threat.project(
                alive.current + self._size(step) * threat.eps * threat.steepest(gradient), alive.clean
            )
        self._score(target, alive, target.logits(alive.current), worst)  # the last iterate: no gradient needed
        return alive.rows

    def _loss(self, step: int) -> losses.Loss:
        return losses.get_loss(self.loss if self.then is None or 2 * step < self.steps else self.then)

    def _size(self, step: int) -> float:
        """Step size, in units of eps."""
        wave = (1 + math.cos(math.pi * step / self.steps)) / 2 if self.schedule == "cosine" else 1.0
        return self.step * wave

    def _score(self, target: Victim, alive: _Standing, logits: Tensor, worst: BestSoFar) -> Tensor:
        """Score the iterates and drop the broken ones; returns the mask of survivors."""
        broken, score = target.judge(alive.current, alive.labels, logits)
        worst.update(alive.rows, alive.current, broken, score)
        alive.keep(~broken)
        return ~broken
