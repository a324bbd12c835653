"""Random models: two answers to one image differ, so none decides; verdicts are by the mean of several."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robust_transfer.attacks.victim import attacking
from robust_transfer.data import Split
from robust_transfer.modes import on_device
from robust_transfer.run import Run

ANSWERS = 20  # whose mean decides on a random model; half as many gradients are averaged
ASKED = 8  # images that are asked about twice
NOTE = (
    f"the model is random: an image counts as broken by the mean logits of {ANSWERS} answers, and each gradient is the mean of "
    f"{ANSWERS // 2}"
)


def answers_of(module: nn.Module, split: Split, run: Run) -> int:
    """Number of answers that decide on an image: 1, or :data:`ANSWERS` for a model that is random in evaluation mode."""
    device = run.torch_device()
    x, _, _ = split.subset(torch.arange(min(ASKED, len(split)))).on(device)
    with on_device(module, device), attacking(module, device, size=split.size) as target:
        return ANSWERS if differ(target.logits(x), target.logits(x)) else 1


def differ(first: Tensor, second: Tensor) -> bool:
    """True if two answers to the same images differ by more than float32 explains."""
    if torch.equal(first, second):
        return False
    return not bool((first - second).abs().max() <= 1e-4 * first.abs().max())
