"""Networks built without random initial weights, which take seconds for large ones and are overwritten at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import init
from torch.overrides import TorchFunctionMode

# PyTorch passes the functions of nn.init as a whole, so their inner calls are not seen.
_INITIAL = "normal_ uniform_ trunc_normal_ xavier_normal_ xavier_uniform_ kaiming_normal_ kaiming_uniform_ orthogonal_"
DRAWS = {getattr(init, name) for name in _INITIAL.split()}
DRAWS |= {Tensor.normal_, Tensor.uniform_, Tensor.random_, Tensor.erfinv_, Tensor.bernoulli_, Tensor.exponential_}


class _Undrawn(TorchFunctionMode):
    """Mode in which random initialisation leaves tensors unchanged."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        if func in DRAWS:
            return args[0] if args else given["tensor"]
        return func(*args, **given)


@contextmanager
def undrawn() -> Iterator[None]:
    """Networks built inside have arbitrary weights in place of random ones; all must be loaded.

    Everything else is as usual: buffers, and attributes outside the state (relative positions, a normalisation),
    which a network on the meta device would lack. The global generators are unchanged.
    """
    with torch.random.fork_rng(devices=[]), _Undrawn():
        yield
