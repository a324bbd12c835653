"""Hand-written training loops: baselines for `fit`. Nothing but PyTorch."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def textbook(model: nn.Module, images: Tensor, labels: Tensor, batch: int) -> float:
    """Seconds of one pass: float32, NCHW, nothing else. ``images`` uint8 (n, 3, H, W)."""
    return loop(
        model.float().to(memory_format=torch.contiguous_format),
        images,
        labels,
        batch,
        channels_last=False,
        dtype=torch.float32,
    )


def tuned(model: nn.Module, images: Tensor, labels: Tensor, batch: int, dtype: torch.dtype) -> float:
    """Seconds of one pass: channels-last and, where ``dtype`` says so, bfloat16 autocast; nothing else."""
    return loop(model.to(memory_format=torch.channels_last), images, labels, batch, channels_last=True, dtype=dtype)


def fast(
    model: nn.Module, images: Tensor, labels: Tensor, batch: int, dtype: torch.dtype, *, eps: float, step: float
) -> float:
    """Seconds of one pass of fast adversarial training (Wong, Rice & Kolter 2020), channels-last, in ``dtype``.

    The example is crafted in evaluation mode, by the gradient of the images alone.
    """

    def craft(x: Tensor, y: Tensor) -> Tensor:
        model.eval()
        start = (x + torch.empty_like(x).uniform_(-eps, eps)).clamp_(0, 1).requires_grad_(True)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=dtype is torch.bfloat16):
            logits = model(start)
        (gradient,) = torch.autograd.grad(F.cross_entropy(logits.float(), y), start)
        model.train()
        moved = start.detach() + step * eps * gradient.sign()
        return torch.min(torch.max(moved, x - eps), x + eps).clamp_(0, 1)

    model.to(memory_format=torch.channels_last)
    return loop(model, images, labels, batch, channels_last=True, dtype=dtype, craft=craft)


def loop(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    batch: int,
    *,
    channels_last: bool,
    dtype: torch.dtype,
    craft: Callable[[Tensor, Tensor], Tensor] = lambda x, y: x,
) -> float:
    device = next(model.parameters()).device
    layout = torch.channels_last if channels_last else torch.contiguous_format
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
    model.train()
    order = torch.randperm(len(images))
    started = time.perf_counter()
    for chosen in order.split(batch):
        x = (images[chosen].to(device).float() / 255).contiguous(memory_format=layout)
        y = labels[chosen].to(device)
        x = craft(x, y)
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype is torch.bfloat16):
            logits = model(x)
        loss = F.cross_entropy(logits.float(), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    loss.item()  # wait for the device
    return time.perf_counter() - started
