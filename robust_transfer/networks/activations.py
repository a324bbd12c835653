"""Activations by name: a setting for networks whose files do not contain it."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

Activate = Callable[[Tensor], Tensor]
# Swish is SiLU (Hendrycks & Gimpel 2016; Ramachandran et al. 2017): x * sigmoid(x).
ACTIVATIONS: dict[str, Activate] = {"relu": F.relu, "silu": F.silu, "gelu": F.gelu}


def activation_named(name: str) -> Activate:
    """Activation called ``name``; raises ValueError for one that is not in :data:`ACTIVATIONS`."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, not {name!r}")
    return ACTIVATIONS[name]
