"""Hand-written training loops: what `fit` is measured against. Nothing but PyTorch."""

from __future__ import annotations

import time

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


def loop(
    model: nn.Module, images: Tensor, labels: Tensor, batch: int, *, channels_last: bool, dtype: torch.dtype
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
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype is torch.bfloat16):
            logits = model(x)
        loss = F.cross_entropy(logits.float(), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    loss.item()  # wait for the device
    return time.perf_counter() - started
