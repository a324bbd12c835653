"""Fine-tuning held near the source's weights: an l2 penalty on the distance to the starting point (Li et al. 2018)."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor
from typing_extensions import override

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.run import Run
from robust_transfer.strategies.base import STRATEGIES
from robust_transfer.strategies.fine_tune import FineTune
from robust_transfer.strategies.trained import Minimised, TrainingStart
from robust_transfer.training import Batch, NaturalObjective


@STRATEGIES.register(
    "l2-sp",
    summary="fine-tuning held near the source's weights",
    paper="Li et al. 2018, section 3",
)
@config
class L2SP(FineTune):
    """Minimises ``mean CE + strength / 2 * |w - w0|^2``, ``w`` the body's parameters and ``w0`` the source's.

    The head has its own penalty, as in :class:`FineTune`; weight decay, which pulls to 0, is off by default.
    """

    weighs: ClassVar[bool] = True
    quick: ClassVar[dict[str, Any]] = FineTune.quick

    strength: float = 0.1
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.strength < 0:
            raise ConfigError(f"strength must not be negative, not {self.strength}")

    @override
    def objective(self, source: Checkpoint, start: TrainingStart, task: Task, run: Run) -> Minimised:
        return Minimised(L2SPObjective(start.classifier, self.strength, self.patience(task)))


class L2SPObjective(NaturalObjective):
    """``CE + strength / 2 * |w - w0|^2``, ``w0`` the body's parameters as they are when it is made."""

    def __init__(self, classifier: Classifier, strength: float, collapse_patience: int = 1) -> None:
        super().__init__(classifier, collapse_patience)
        self.strength = strength
        self._origin = [p.detach().clone() for p in classifier.body.parameters()]  # no buffers: they need not be sent

    @override
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        out = super().forward(batch)
        current = list(self.classifier.body.parameters())
        self._origin = [origin.to(p.device) for origin, p in zip(self._origin, current, strict=True)]
        moved = sum(
            ((p - origin).square().sum() for p, origin in zip(current, self._origin, strict=True)), out["loss"] * 0
        )
        return {**out, "loss": out["loss"] + self.strength / 2 * moved, "distance": moved.detach().sqrt()}
