"""Networks without memory or initialisation, for comparing names and shapes: fast, and for any constructor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from robust_transfer.errors import NetworkError

# What layers make their weights and buffers with. What constructors compute with (arange, linspace) stays real.
FACTORIES = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn}


class Weightless(TorchFunctionMode):
    """Mode in which new tensors have no values, on the device "meta", and in-place initialisation does nothing."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Intercept every PyTorch call."""
        kwargs = kwargs or {}
        if func in FACTORIES:
            return func(*args, **{**kwargs, "device": "meta"})
        name = getattr(func, "__name__", "")
        fills = name.endswith("_") and not name.endswith("__") and name != "requires_grad_"
        if fills and args and isinstance(args[0], Tensor) and args[0].is_meta:
            return args[0]
        return func(*args, **kwargs)


def weightless(make: Callable[[], nn.Module]) -> nn.Module:
    """Module returned by ``make``, without values; falls back to PyTorch's device "meta"."""
    try:
        with Weightless():
            return make()
    except (RuntimeError, TypeError, NetworkError):
        with torch.device("meta"):
            return make()
