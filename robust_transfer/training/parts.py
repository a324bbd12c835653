"""Loss and gradients of a batch: at once, or in parts whose gradients add up where memory does not suffice."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from robust_transfer.allocation import ask_for, held
from robust_transfer.errors import MemoryLimitError
from robust_transfer.halving import half
from robust_transfer.training.objective import Batch, Objective

Forward = Callable[[Batch], dict[str, Tensor]]
STEP = "a training step"


def gradients(batch: Batch, forward: Forward, parts: int) -> dict[str, Tensor]:
    """Backward passes of a batch in ``parts`` of about one size, each weighed by its share; its figures and logits.

    The gradients add up to those of the whole batch where the loss is a mean over images.
    """
    logits, total, begin = list[Tensor](), dict[str, Tensor](), 0
    for rows in torch.arange(len(batch.labels)).tensor_split(parts):
        part = batch.part(slice(begin, begin + len(rows))) if parts > 1 else batch
        before = held()
        share, out = len(rows) / len(batch.labels), dict(forward(part))
        ask_for(held() - before)  # the way back takes about as much again
        (share * out["loss"]).backward()
        logits.append(out.pop("logits").detach())
        total = {name: total.get(name, 0) + share * value.detach() for name, value in out.items()}
        begin += len(rows)
    return {**total, "logits": logits[0] if len(logits) == 1 else torch.cat(logits)}


def smaller(size: int, objective: Objective, world: int, least: int) -> int:
    """Size of smaller parts; raises :class:`MemoryLimitError` for a step that cannot be taken in parts."""
    if world > 1 or not objective.divisible:
        why = "several processes cannot take it in parts" if world > 1 else "this method needs the whole batch at once"
        raise MemoryLimitError(f"{STEP} of {size} images does not fit in memory, and {why}: give a smaller batch_size")
    return half(size, least, STEP)


def has_batch_statistics(objective: nn.Module) -> bool:
    """True if batch norm computes statistics of a batch: those of a part are others, and those of one image do not exist."""
    return any(isinstance(part, _BatchNorm) and part.training for part in objective.modules())
