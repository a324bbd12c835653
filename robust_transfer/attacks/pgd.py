"""Projected gradient descent (Madry et al. 2018, section 2.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from robust_transfer import losses
from robust_transfer.attacks.base import ATTACKS, Attack, Target
from robust_transfer.config import config
from robust_transfer.errors import ConfigError
from robust_transfer.threat import Threat


@ATTACKS.register("pgd", summary="projected gradient ascent, every iterate scored", paper="Madry et al. 2018")
@config
class PGD(Attack):
    """``steps`` steps of ``step * eps`` along the steepest direction, from a random start, ``restarts`` times.

    Every iterate is scored (the start and the last one too) and an example leaves the batch once it is broken, so more
    steps or restarts never help the model. ``loss`` is ce, margin or dlr. ``step`` is in units of eps.
    """

    steps: int = 20
    step: float = 0.25
    restarts: int = 1
    loss: str = "ce"
    random_start: bool = True

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1:
            raise ConfigError("pgd needs at least 1 step and 1 restart")
        if self.step <= 0:
            raise ConfigError(f"pgd's step is a positive multiple of eps, not {self.step}")
        losses.get_loss(self.loss)

    def run(self, target: Target, x: Tensor, labels: Tensor, ids: Tensor, threat: Threat, seed: int) -> Tensor:
        """See :class:`Attack`. Returns, per example, the breaking iterate or else the one with the largest margin."""
        best = x.clone()
        best_margin = torch.full((len(x),), -torch.inf, device=x.device)
        standing = torch.arange(len(x), device=x.device)
        for restart in range(self.restarts):
            if len(standing):
                standing = self._climb(target, x, labels, ids, threat, seed, restart, standing, best, best_margin)
        return best

    def _climb(
        self,
        target: Target,
        x: Tensor,
        labels: Tensor,
        ids: Tensor,
        threat: Threat,
        seed: int,
        restart: int,
        standing: Tensor,
        best: Tensor,
        best_margin: Tensor,
    ) -> Tensor:
        """One restart on the examples ``standing``; fills ``best`` and returns who still stands."""
        loss = losses.get_loss(self.loss)
        clean, y = x[standing], labels[standing]
        current = clean
        if self.random_start or restart:
            current = threat.random_start(clean, ids[standing], seed=seed, purpose="pgd", restart=restart)
        for step in range(self.steps + 1):
            if step < self.steps:
                logits, gradient = target.gradient(current, y, loss)
            else:
                logits = target.logits(current)  # the last iterate: scored in float32, no gradient needed
            broken, margin = target.broken(current, y, logits)
            better = broken | (margin > best_margin[standing])
            best[standing[better]] = current[better]
            best_margin[standing[better]] = margin[better]
            keep = ~broken
            if not keep.all():
                standing, clean, y, current = standing[keep], clean[keep], y[keep], current[keep]
                if not len(standing):
                    break
                if step < self.steps:
                    gradient = gradient[keep]
            if step < self.steps:
                current = threat.project(current + self.step * threat.eps * threat.steepest(gradient), clean)
        return standing
