"""Targeted Auto-PGD (Croce & Hein 2020, section 4.1): one climb for each of the classes that an example is closest to."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from robust_transfer import losses
from robust_transfer.attacks.apgd import Climb, climb
from robust_transfer.attacks.base import ATTACKS, Attack, Worst
from robust_transfer.attacks.target import Target
from robust_transfer.config import config
from robust_transfer.errors import ConfigError
from robust_transfer.registry import unknown
from robust_transfer.threat import Threat


@ATTACKS.register(
    "apgd-t", summary="Auto-PGD towards each of the nearest classes", paper="Croce & Hein 2020, section 4.1"
)
@config
class TargetedAPGD(Attack):
    """``steps`` steps of Auto-PGD towards each of the ``targets`` classes with the largest logits on the clean image.

    ``loss`` is dlr (the targeted difference of logits ratio; with fewer than 4 classes, where it is undefined, the
    margin to the target), margin or probability (Gao et al. 2022). There are never more targets than other classes.
    With ``trial`` only so many steps are taken towards all of them, and the others towards the ``finalists`` of them
    whose loss has then come highest: an example that breaks at all mostly does so towards one of those.
    """

    steps: int = 100
    targets: int = 9
    restarts: int = 1
    loss: str = "dlr"
    trial: int | None = None
    finalists: int = 2

    count: ClassVar[str | None] = "steps"

    def __post_init__(self) -> None:
        if min(self.steps, self.targets, self.restarts, self.finalists) < 1:
            raise ConfigError("apgd-t needs at least 1 step, 1 target, 1 finalist and 1 restart")
        if self.trial is not None and not 1 <= self.trial <= self.steps:
            raise ConfigError(f"apgd-t's trial takes 1 to all {self.steps} of its steps, not {self.trial}")
        if self.loss not in losses.TARGETED:
            raise ConfigError(unknown("targeted loss", self.loss, list(losses.TARGETED)))

    @property
    def most_steps(self) -> int:
        """See :class:`Attack`; fewer where there are fewer classes."""
        trial = self.steps if self.trial is None or self.finalists >= self.targets else self.trial
        return self.restarts * (trial * self.targets + (self.steps - trial) * self.finalists)

    def run(self, target: Target, x: Tensor, labels: Tensor, ids: Tensor, threat: Threat, seed: int) -> Tensor:
        """See :class:`Attack`. Returns, per example, a breaking iterate or else the one with the largest margin."""
        worst, standing = Worst(x), torch.ones(len(x), dtype=torch.bool, device=x.device)
        clean = target.logits(x)
        _, others = losses.own_and_others(clean, labels)
        nearest = others.topk(min(self.targets, others.shape[1] - 1), dim=1).indices
        trial = self.trial if self.trial is not None and self.finalists < nearest.shape[1] else self.steps

        def go_on(on: Climb, loss: losses.Loss, part: slice) -> None:
            standing[on.rows] = False
            standing[climb(target, on, loss, threat, self.steps, worst, part=part)] = True

        for restart in range(self.restarts):
            tried, reached = list[tuple[Climb, losses.Loss]](), torch.full(nearest.shape, -torch.inf, device=x.device)
            for rank in range(nearest.shape[1]):
                rows = standing.nonzero().squeeze(1)
                if not len(rows):
                    return worst.images
                purpose = f"apgd-t/{self.loss}/{rank}"
                start = threat.random_start(x[rows], ids[rows], seed=seed, purpose=purpose, restart=restart)
                aim = torch.stack([labels[rows], nearest[rows, rank]], 1)
                loss, aim = losses.settle(losses.TARGETED[self.loss], partial(torch.index_select, clean, 0, rows), aim)
                on = Climb.begin(rows, x[rows], labels[rows], aim, start, threat.eps)
                go_on(on, loss, slice(trial))
                if trial < self.steps:
                    reached[on.rows, rank] = on.best_value
                    tried.append((on, loss))
            best = reached.topk(min(self.finalists, reached.shape[1]), dim=1).indices
            chosen = torch.zeros_like(reached, dtype=torch.bool).scatter_(1, best, True)
            for rank, (on, loss) in enumerate(tried):
                on.keep(standing[on.rows] & chosen[on.rows, rank])
                if len(on.rows):
                    go_on(on, loss, slice(trial, None))
        return worst.images
