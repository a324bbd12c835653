"""Targeted Auto-PGD (Croce & Hein 2020, section 4.1): one climb towards each of an example's nearest classes."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from robust_transfer import losses
from robust_transfer.attacks.apgd import Climb, climb
from robust_transfer.attacks.base import ATTACKS, Attack, BestSoFar
from robust_transfer.attacks.nearest import boundary_distances, nearest_by_logit
from robust_transfer.attacks.victim import Victim
from robust_transfer.config import config
from robust_transfer.errors import ConfigError
from robust_transfer.registry import unknown
from robust_transfer.threat import Threat

# Examples that are tried at a time: so many pixels of climbs, in one channel, and at least so many examples.
CLIMBING, MIN_ROWS = 2**22, 32


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
    With ``scanned`` the targets are those of so many nearest classes whose boundaries are nearest to the first order: the
    margin over its slope (Melamed et al. 2024, section 3), at one gradient each.
    """

    steps: int = 100
    targets: int = 9
    restarts: int = 1
    loss: str = "dlr"
    trial: int | None = None
    finalists: int = 2
    scanned: int | None = None

    count: ClassVar[str | None] = "steps"

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.steps, self.targets, self.restarts, self.finalists) < 1:
            raise ConfigError("apgd-t needs at least 1 step, 1 target, 1 finalist and 1 restart")
        if self.trial is not None and not 1 <= self.trial <= self.steps:
            raise ConfigError(f"apgd-t's trial takes 1 to all {self.steps} of its steps, not {self.trial}")
        if self.scanned is not None and self.scanned < self.targets:
            raise ConfigError(
                f"apgd-t scans at least as many classes as its {self.targets} targets, not {self.scanned}"
            )
        if self.loss not in losses.TARGETED:
            raise ConfigError(unknown("targeted loss", self.loss, list(losses.TARGETED)))

    @property
    def most_steps(self) -> int:
        """Steps over all targets, of which there are fewer with fewer classes."""
        trial = self.steps if self.trial is None or self.finalists >= self.targets else self.trial
        return (self.scanned or 0) + self.restarts * (trial * self.targets + (self.steps - trial) * self.finalists)

    def run(self, target: Victim, x: Tensor, labels: Tensor, ids: Tensor, threat: Threat, seed: int) -> Tensor:
        """Return, per example, a breaking iterate or else the one with the largest margin."""
        worst, standing = BestSoFar(x), torch.ones(len(x), dtype=torch.bool, device=x.device)
        clean = target.logits(x)
        nearest = nearest_by_logit(clean, labels, self.scanned or self.targets)
        if self.scanned is not None:
            distances = boundary_distances(target, x, labels, nearest, threat)
            nearest = nearest.gather(1, distances.argsort(dim=1, stable=True))[:, : self.targets]
        loss = losses.TARGETED[self.loss]

        def begin(rows: Tensor, ranks: list[int], restart: int) -> tuple[Climb, losses.Loss]:
            """Climb from each of ``rows`` towards each of its classes of these ``ranks``."""
            starts, aims = [], []
            for rank in ranks:
                purpose = f"apgd-t/{self.loss}/{rank}"
                starts += [threat.random_start(x[rows], ids[rows], seed=seed, purpose=purpose, restart=restart)]
                aims += [torch.stack([labels[rows], nearest[rows, rank]], 1)]
            rows = rows.repeat(len(ranks))
            settled, aim = losses.settle(loss, lambda: clean[rows], torch.cat(aims))
            return Climb.begin(rows, x[rows], labels[rows], aim, torch.cat(starts), threat.eps), settled

        ranks = list(range(nearest.shape[1]))
        trial = self.trial if self.finalists < len(ranks) and self.trial != self.steps else None
        at_once = max(MIN_ROWS, CLIMBING // x[0, 0].numel() // len(ranks))
        for restart in range(self.restarts):
            # a trial climbs towards all classes at once, in full batches; without one, few may need the later classes
            for together in [ranks] if trial else [[rank] for rank in ranks]:
                for rows in torch.split(standing.nonzero().squeeze(1), at_once):
                    if not len(rows):
                        return worst.images
                    climbs, settled = begin(rows, together, restart)
                    standing[rows] = False
                    left = climb(
                        target, climbs, settled, threat, self.steps, worst, trial=trial, finalists=self.finalists
                    )
                    standing[left] = True
        return worst.images
