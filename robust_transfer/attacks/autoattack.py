"""Reference implementation of AutoAttack (Croce & Hein 2020) as a registered attack: the extra `autoattack`."""

from __future__ import annotations

import importlib
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from robust_transfer.attacks.base import ATTACKS, SURVIVAL_SHARE, Attack
from robust_transfer.attacks.victim import Victim
from robust_transfer.config import config
from robust_transfer.errors import ConfigError
from robust_transfer.modes import call
from robust_transfer.registry import unknown
from robust_transfer.threat import Threat

TARGETED, UNTARGETED = ("apgd-ce", "apgd-t", "fab-t", "square"), ("apgd-ce", "apgd-dlr", "fab", "square")
RANDOM = ("apgd-ce", "apgd-dlr")
# Climbs of so many steps that each takes, nine of them where it is targeted, and passes that one of its steps takes.
CLIMBS = {"apgd-ce": 1, "apgd-dlr": 1, "apgd-t": 9, "fab": 1, "fab-t": 9, "square": 0}
PASSES = {"fab": 2.5, "fab-t": 2.5}
QUERIES = 5000


class Counted(nn.Module):
    """Module around a victim, for third-party code; counts the passes."""

    def __init__(self, target: Victim) -> None:
        super().__init__()
        self.target, self.model = target, target.model

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images in [0, 1]."""
        self.target.passes += (1 + (torch.is_grad_enabled() and x.requires_grad)) * len(x)
        return call(self.model, x).float()  # type: ignore[no-any-return]


@ATTACKS.register(
    "pyautoattack", summary="the reference implementation of AutoAttack (an extra)", paper="Croce & Hein 2020"
)
@config
class PyAutoAttack(Attack):
    """Standard version of ``pyautoattack``; its noise is a stream, so its verdicts depend on the batch.

    With fewer than four classes, where targeted losses are undefined and that version crashes, only its untargeted
    attacks run (without DLR for two classes); with fewer than ten, as many targets as there are other classes.
    ``only``: a single one of its attacks. ``steps`` (but for square) and ``restarts`` replace its defaults. ``eot``:
    the version ``rand``, which averages so many gradients.
    """

    only: str | None = None
    steps: int = 100
    restarts: int | None = None

    batch_free: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.only is not None and self.only not in CLIMBS:
            raise ConfigError(unknown("attack of the reference implementation", self.only, list(CLIMBS)))
        if self.steps < 1 or (self.restarts is not None and self.restarts < 1):
            raise ConfigError("pyautoattack needs at least 1 step and 1 restart")

    @property
    def most_steps(self) -> int:
        """Gradient steps of Auto-PGD, then of Auto-PGD and FAB towards nine targets each."""
        return self.steps * sum(CLIMBS[name] for name in self._names(TARGETED))

    @property
    def passes(self) -> float:
        """Passes of the gradient steps (FAB: two and a half each), and 5,000 queries of Square."""
        names = self._names(TARGETED)
        gradients = sum(self.steps * CLIMBS[name] * PASSES.get(name, 2.0 * self.eot) for name in names)
        return 3.0 + SURVIVAL_SHARE * (gradients + QUERIES * ("square" in names))

    def _names(self, usual: tuple[str, ...]) -> tuple[str, ...]:
        """Names of its attacks to run; ``usual`` are those of its standard version."""
        return (self.only,) if self.only is not None else RANDOM if self.eot > 1 else usual

    @override
    def run(self, target: Victim, x: Tensor, labels: Tensor, ids: Tensor, threat: Threat, seed: int) -> Tensor:
        norm = {"linf": "Linf", "l2": "L2"}[threat.norm]
        classes = target.logits(x[:1]).shape[1]
        names = self._names(TARGETED if classes > 3 else UNTARGETED)
        attacks = [name for name in names if classes > 2 or name != "apgd-dlr" or name == self.only]
        reference = _library().AutoAttack(
            Counted(target),
            attacks=attacks,
            version="custom",
            norm=norm,
            eps=threat.eps,
            seed=seed,
            device=x.device,
        )
        reference.apgd.n_iter = reference.apgd_targeted.n_iter = reference.fab.n_iter = self.steps
        reference.apgd.n_restarts = reference.fab.n_restarts = self.restarts or (1 if classes > 3 else 5)
        reference.apgd.eot_iter = reference.apgd_targeted.eot_iter = self.eot
        reference.apgd_targeted.n_target_classes = reference.fab.n_target_classes = min(9, classes - 1)
        devices = [x.device] if x.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            found, _ = reference.run_standard_evaluation(x.contiguous(), labels)
        return found  # type: ignore[no-any-return]


def _library() -> Any:
    try:
        return importlib.import_module("pyautoattack")
    except ImportError:
        raise ConfigError(
            "the reference implementation of AutoAttack is an extra: pip install 'robust-transfer[autoattack]'"
        ) from None
