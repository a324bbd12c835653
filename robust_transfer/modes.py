"""Context managers that put a module into a state and restore it: evaluation mode, no weight gradients, a device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for any module, restoring each submodule's own mode afterwards."""
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    for m, _ in modes:  # also where a module's own eval() or train() leaves some of them as they were
        m.training = False
    try:
        yield
    finally:
        for m, training in modes:
            m.training = training


@contextmanager
def without_weight_gradients(module: nn.Module) -> Iterator[None]:
    """Disable gradients of all parameters inside the block (compiled networks would compute them); restored afterwards."""
    trained = [p for p in module.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def call(model: nn.Module, x: Tensor) -> Any:
    """Output of ``model(x)``, and ``x`` restored afterwards: third-party modules may modify their input in place."""
    return model(x if getattr(model, "keeps_input", False) else x.clone())


@contextmanager
def on_device(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Move ``model`` to ``device`` inside the block, and back afterwards."""
    before = next((t.device for t in (*model.parameters(), *model.buffers())), device)
    model.to(device)
    try:
        yield
    finally:
        model.to(before)
