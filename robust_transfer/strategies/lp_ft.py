"""Linear probing, then fine-tuning (Kumar et al. 2022): the order of training that distorts features least."""

from __future__ import annotations

from typing import Any, ClassVar

from robust_transfer.config import config
from robust_transfer.strategies.base import STRATEGIES
from robust_transfer.strategies.fine_tune import FineTune
from robust_transfer.strategies.linear_probe import Choose
from robust_transfer.strategies.trained import BatchNorm


@STRATEGIES.register(
    "lp-ft",
    summary="linear probing, then fine-tuning of all weights with a free head",
    paper="Kumar et al. 2022, section 3.4",
)
@config
class LPFT(FineTune):
    """Fine-tuning from the most accurate probe, its head let go: what `fine-tune` holds back is free here.

    Against :class:`FineTune`: the probe is the one of the best clean accuracy on val, the head has no penalty of its own
    (``hold_l2``), and batch norm adapts to the target's images.
    """

    weighs: ClassVar[bool] = True
    quick: ClassVar[dict[str, Any]] = FineTune.quick

    choose: Choose = "clean"
    hold_l2: bool = False
    batch_norm: BatchNorm = "train"
