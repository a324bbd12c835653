"""Fine-tuning of the norms alone: scales and shifts, and the head (Frankle et al. 2021)."""

from __future__ import annotations

from typing import Any, ClassVar

from typing_extensions import override

from robust_transfer import modules
from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.strategies.base import STRATEGIES
from robust_transfer.strategies.fine_tune import FineTune
from robust_transfer.strategies.partial import Partial


@STRATEGIES.register(
    "norm-only",
    summary="the norms' scales and shifts, and the head, on natural images",
    paper="Frankle et al. 2021, section 3",
)
@config
class NormOnly(Partial):
    """Training of the scale and shift of every norm (batch, group, layer, instance) and of the head.

    Statistics stay the source's (``batch_norm=eval``), or are those of the target's images (``train``).
    """

    weighs: ClassVar[bool] = True
    quick: ClassVar[dict[str, Any]] = FineTune.quick

    @override
    def trained(self, classifier: Classifier) -> set[str]:
        """All state of the norms."""
        norms = (path for path, module in classifier.body.named_modules() if modules.is_norm(module))
        return {f"body.{path}.{name}" for path in norms for name in classifier.body.get_submodule(path).state_dict()}
