"""Adaptive attack on mixtures of two networks: through each of them, whatever the mixing does to gradients.

The map that sharpens the robust network's logits saturates (a clamp, a power, a softmax whose other classes underflow), and
where it does the mixture's own gradient is that of the other network alone: an attack that climbs it never moves the
robust one. What is climbed here has a gradient in both, and what counts is what the mixture says of where that leads
(Tramèr et al. 2020, on defences that mix; Athalye et al. 2018: a smooth stand-in for what hides gradients).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from robust_transfer import losses
from robust_transfer.attacks.apgd import Climb, climb
from robust_transfer.attacks.base import ATTACKS, Attack, BestSoFar
from robust_transfer.attacks.victim import Victim
from robust_transfer.config import config
from robust_transfer.errors import ConfigError
from robust_transfer.mixed_head import mixed
from robust_transfer.mixture import BothLogits, mixed_head
from robust_transfer.threat import Threat

EVERY = 5  # iterates of a climb of which the mixture is asked about one


def _odds(logits: Tensor, labels: Tensor) -> Tensor:
    return losses.log_odds(logits, labels, torch.ones_like(labels, dtype=torch.float32))


# What is climbed, of the robust and the natural logits, labels, and the natural network's share.
LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "robust": lambda robust, natural, labels, rest: _odds(robust, labels),
    "natural": lambda robust, natural, labels, rest: _odds(natural, labels),
    "sum": lambda robust, natural, labels, rest: _odds(robust, labels) + _odds(natural, labels),
    "stand-in": lambda robust, natural, labels, rest: _odds(mixed(natural, robust, rest), labels),
}


@ATTACKS.register(
    "through-parts",
    summary="attacks both networks of a mixture, and tries the result on the mixture",
    paper="adaptive: Tramèr et al. 2020; on mixtures of Bai et al. 2024",
)
@config
class ThroughParts(Attack):
    """``steps`` steps of Auto-PGD on each of five losses, on the examples that still stand.

    Log odds of the robust network alone; of the natural one; the sum of both; those of a stand-in for the mixture, with the
    same share and without the map (neither clamp nor power, logits in a range in which softmax does not saturate); and in
    the end those of the mixture itself, from the strongest image that was found. Of the first four every fifth iterate is
    scored by the mixture.
    """

    steps: int = 20

    count: ClassVar[str | None] = "steps"
    needs_parts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise ConfigError("through-parts needs at least 1 step")

    @property
    @override
    def most_steps(self) -> int:
        return self.steps * (len(LOSSES) + 1)

    def run(self, target: Victim, x: Tensor, labels: Tensor, ids: Tensor, threat: Threat, seed: int) -> Tensor:
        """Return, per example, a breaking iterate or else the one with the largest margin."""
        head = mixed_head(target.model)
        if head is None:
            raise ConfigError("through-parts attacks the parts of a mixture of two networks, and the model is none")
        rest = head.rest.detach().clone()
        worst, rows = BestSoFar(x), torch.arange(len(x), device=x.device)
        with target.beside(BothLogits(target.model)) as guide:  # type: ignore[arg-type]
            # logits far apart are brought to a usual range, settled by the clean image: softmax is not to saturate
            clean = guide.guess(x).chunk(2, 1)
            aims = torch.cat([labels.float()[:, None], *(_scale(logits, labels) for logits in clean)], 1)
            for name in LOSSES:
                start = threat.random_start(x[rows], ids[rows], seed=seed, purpose=f"through-parts/{name}")
                on = Climb.begin(rows, x[rows], labels[rows], aims[rows], start, threat.eps)
                rows = climb(target, on, _loss(name, rest), threat, self.steps, worst, guide=guide, every=EVERY)
                if not len(rows):
                    return worst.images
        odds, aim = losses.settle(losses.log_odds, lambda: target.guess(x), labels)
        on = Climb.begin(rows, x[rows], labels[rows], aim[rows], worst.images[rows], threat.eps)
        climb(target, on, odds, threat, self.steps, worst)
        return worst.images


def _scale(logits: Tensor, labels: Tensor) -> Tensor:
    """Scale that brings logits to a usual range, ``(B, 1)``."""
    _, aim = losses.settle(losses.probability_margin, lambda: logits, labels)
    return aim[:, 1:]


def _loss(name: str, rest: Tensor) -> losses.Loss:
    """Loss of both networks' logits ``(B, 2 K)``; ``aim`` ``(B, 3)``: the label, and the scale of each network's logits."""

    def loss(out: Tensor, aim: Tensor) -> Tensor:
        robust, natural = out.chunk(2, 1)
        return LOSSES[name](aim[:, 1:2] * robust, aim[:, 2:] * natural, aim[:, 0].long(), rest)

    return loss
