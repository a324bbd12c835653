"""Shared helpers for tests of attacks: models that are functions, and batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_transfer.threat import Threat

LINF, L2 = Threat(norm="linf", eps=0.2), Threat(norm="l2", eps=1.0)
SLACK = 1e-6
Batch = tuple[Tensor, Tensor, Tensor]


class Linear(nn.Module):
    """Logits ``w x + b``: every margin is known exactly."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.flatten(1), self.weight, self.bias)


class Scaled(nn.Module):
    """A model whose logits are multiplied by a constant."""

    def __init__(self, model: nn.Module, scale: float) -> None:
        super().__init__()
        self.model, self.scale = model, scale

    def forward(self, x: Tensor) -> Tensor:
        scaled: Tensor = self.model(x) * self.scale
        return scaled


class Function(nn.Module):
    """Any function of a batch as a model."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def small_network(dropout: float = 0.0) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Flatten(),
        nn.Linear(32 * 16, 10),
    )


def trained(digits: Batch, *, seed: int, epochs: int, eps: float = 0.0) -> nn.Module:
    """A small network after some epochs on 1200 digits and, where ``eps`` is not 0, on their FGSM images."""
    images, labels, _ = digits
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = small_network()
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        for _ in range(epochs):
            for rows in torch.randperm(1200).split(100):
                x, y = images[rows], labels[rows]
                if eps:
                    x.requires_grad_(True)
                    (gradient,) = torch.autograd.grad(F.cross_entropy(model(x), y), x)
                    moved = (x + eps * gradient.sign()).clamp(0, 1).detach()
                    x, y = torch.cat([x.detach(), moved]), y.repeat(2)
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
    model.zero_grad(set_to_none=True)
    return model.eval()


def first(batch: Batch, n: int) -> Batch:
    return batch[0][:n], batch[1][:n], batch[2][:n]


def constant(rows: int, classes: int = 4) -> Batch:
    return torch.full((rows, 3, 4, 4), 0.5), torch.zeros(rows).long() % classes, torch.arange(rows)


def separated(norm: str, pair: tuple[int, int], shares: Tensor, eps: float) -> tuple[Linear, Batch]:
    """A linear model of four classes and grey images whose exact distance to the pair's boundary is ``shares * eps``.

    Classes out of the pair have logits so low that they are out of reach.
    """
    generator = torch.Generator().manual_seed(sum(pair))
    own, other = pair
    weight, bias = torch.randn(4, 48, generator=generator), torch.full((4,), -1000.0)
    across = weight[other] - weight[own]
    length = across.abs().sum() if norm == "linf" else across.norm()
    x = 0.5 + 0.05 * (torch.rand(len(shares), 48, generator=generator) - 0.5)
    # moved along the normal until the margin is what it should be
    bias[own], bias[other] = 0.0, 0.0
    x = x - ((x @ across + shares * eps * length) / across.square().sum())[:, None] * across
    return Linear(weight, bias), (x.view(-1, 3, 4, 4), torch.full((len(x),), own), torch.arange(len(x)))
