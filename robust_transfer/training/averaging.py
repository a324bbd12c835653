"""Moving average of weights and batch statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robust_transfer.classifier import Classifier

if TYPE_CHECKING:
    from timm.utils import ModelEmaV3


def averaged(classifier: Classifier, decay: float) -> ModelEmaV3:
    """Moving average of weights and batch statistics, whose decay rises to ``decay``: ``1 - n ** (-2 / 3)`` at step n."""
    from timm.utils import ModelEmaV3  # with torchvision it takes seconds to load, and most runs average nothing

    # A constant decay of 0.998 looks back 500 steps from the first one on, to random weights. With the warm-up it looks back
    # n^(2/3) steps of n: a short run's average is as near its end, in proportion, as a long one's.
    return ModelEmaV3(classifier, decay=decay, use_warmup=True)
