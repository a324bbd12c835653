"""Fine-tuning of the biases alone, and the head (Ben Zaken et al. 2022, BitFit)."""

from __future__ import annotations

from typing import Any, ClassVar

from typing_extensions import override

from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.strategies.base import STRATEGIES
from robust_transfer.strategies.fine_tune import FineTune
from robust_transfer.strategies.partial import Partial


@STRATEGIES.register(
    "bitfit",
    summary="the biases and the head on natural images",
    paper="Ben Zaken et al. 2022, section 2",
)
@config
class BitFit(Partial):
    """Training of every bias (a norm's shift is one) and of the head."""

    weighs: ClassVar[bool] = True
    quick: ClassVar[dict[str, Any]] = FineTune.quick

    @override
    def trained(self, classifier: Classifier) -> set[str]:
        """Parameters that are called bias, as PyTorch's layers call it."""
        return {f"body.{n}" for n, _ in classifier.body.named_parameters() if n.rpartition(".")[2] == "bias"}
