"""Layer in which numbers first cease to be finite, on the way forward or back: found by hooks while a step is repeated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Trace:
    """``first``: where the first tensor that is not finite appeared, in words; empty if there was none."""

    def __init__(self) -> None:
        self.first = ""

    def look(self, values: Tensor, where: str) -> None:
        """Note ``where`` if ``values`` are the first that are not finite."""
        if not self.first and values.is_floating_point() and not bool(values.isfinite().all()):
            self.first = where


@contextmanager
def traced(module: nn.Module) -> Iterator[Trace]:
    """Watch what every layer of ``module`` returns inside the block, and the gradients that come back to it."""
    trace = Trace()
    with torch.no_grad():
        handles = [
            part.register_forward_hook(_hook(trace, name))
            for name, part in module.named_modules()
            if not any(True for _ in part.children())
        ]
    try:
        yield trace
    finally:
        for handle in handles:
            handle.remove()


def _hook(trace: Trace, name: str) -> Any:
    def hook(_: nn.Module, __: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            return
        trace.look(output.detach(), f"in the output of {name}")
        if output.requires_grad:
            output.register_hook(lambda gradient: trace.look(gradient, f"in the gradient of {name}'s output"))

    return hook
