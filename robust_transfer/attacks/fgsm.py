"""Fast gradient sign method (Goodfellow et al. 2015, section 4), with the random start of Wong et al. 2020."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from robust_transfer import losses
from robust_transfer.attacks.base import ATTACKS, Attack
from robust_transfer.attacks.victim import Victim
from robust_transfer.config import config
from robust_transfer.errors import ConfigError
from robust_transfer.threat import Threat


@ATTACKS.register("fgsm", summary="one gradient step of size eps", paper="Goodfellow et al. 2015")
@config
class FGSM(Attack):
    """One step of ``step * eps`` along the steepest direction; ``random_start`` begins inside the ball."""

    step: float = 1.0
    loss: str = "ce"
    random_start: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.step <= 0:
            raise ConfigError(f"fgsm's step is a positive multiple of eps, not {self.step}")
        losses.get_loss(self.loss)

    @override
    def run(self, target: Victim, x: Tensor, labels: Tensor, ids: Tensor, threat: Threat, seed: int) -> Tensor:
        start = threat.random_start(x, ids, seed=seed, purpose="fgsm") if self.random_start else x
        _, gradient = target.gradient(start, labels, losses.get_loss(self.loss))
        return threat.project(start + self.step * threat.eps * threat.steepest(gradient), x)
