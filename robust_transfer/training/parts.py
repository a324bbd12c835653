"""Loss and gradients of a batch: at once, or in parts whose gradients add up where memory does not suffice."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from robust_transfer.errors import MemoryLimitError
from robust_transfer.halving import half
from robust_transfer.training.objective import Batch, Objective

Forward = Callable[[Batch], dict[str, Tensor]]
STEP = "a training step"


def gradients(batch: Batch, forward: Forward, size: int) -> dict[str, Tensor]:
    """Backward passes of a batch in parts of ``size`` images, each weighed by its share; figures and logits of the batch.

    The gradients add up to those of the whole batch where the loss is a mean over images.
    """
    logits, total = list[Tensor](), dict[str, Tensor]()
    for begin in range(0, len(batch.labels), size):
        part = batch.part(slice(begin, begin + size))
        share, out = len(part.labels) / len(batch.labels), dict(forward(part))
        (share * out["loss"]).backward()
        logits.append(out.pop("logits").detach())
        total = {name: total.get(name, 0) + share * value.detach() for name, value in out.items()}
    return {**total, "logits": logits[0] if len(logits) == 1 else torch.cat(logits)}


def smaller(size: int, objective: Objective, world: int) -> int:
    """Size of smaller parts; raises :class:`MemoryLimitError` for a step that cannot be taken in parts."""
    if world > 1 or not objective.divisible:
        why = "several processes cannot take it in parts" if world > 1 else "this method needs the whole batch at once"
        raise MemoryLimitError(f"{STEP} of {size} images does not fit in memory, and {why}: give a smaller batch_size")
    return half(size, 2 if has_batch_statistics(objective) else 1, STEP)


def has_batch_statistics(objective: nn.Module) -> bool:
    """True if batch norm computes statistics of a batch: those of a part are others."""
    return any(isinstance(part, _BatchNorm) and part.training for part in objective.modules())
