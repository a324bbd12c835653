"""Numbers that are not finite, found at the price of one maximum: which tensor has the first."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm


def first_not_finite(named: Iterable[tuple[str, Tensor]]) -> tuple[str, Tensor] | None:
    """First of the ``named`` tensors with an entry that is NaN or infinite, with its name; None if all are finite."""
    found = [(name, values.detach()) for name, values in named if values.is_floating_point() and values.numel()]
    # the largest entry, of all of them at once: a NaN or an infinity survives every maximum
    if not found or bool(get_total_norm([values for _, values in found], norm_type=math.inf).isfinite()):
        return None
    return next((name, values) for name, values in found if not bool(values.isfinite().all()))


def bits(values: Tensor) -> str:
    """Hash of a tensor's bits, in which one NaN may differ from another: 16 hexadecimal digits."""
    flat = values.detach().cpu().contiguous().flatten()
    return hashlib.sha256(flat.view(torch.uint8).numpy().tobytes()).hexdigest()[:16]
