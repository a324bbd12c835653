"""Layers that draw anew at every query."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from masking import Fn
from torch import Tensor, nn


class Noise(nn.Module):
    """Gaussian noise (Liu et al. 2018, random self-ensemble)."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma

    def forward(self, x: Tensor) -> Tensor:
        return x + self.sigma * torch.randn_like(x)


class Resized(nn.Module):
    """Smaller by a random number of pixels, then padded at random places (Xie et al. 2018)."""

    def forward(self, x: Tensor) -> Tensor:
        side = x.shape[-1]
        small = int(torch.randint(side - 1, side + 1, ()))
        left, top = (int(torch.randint(0, side - small + 1, ())) for _ in range(2))
        smaller = F.interpolate(x, size=(small, small), mode="bilinear", align_corners=False)
        return F.pad(smaller, (left, side - small - left, top, side - small - top))


def dropped(share: float) -> nn.Module:
    """Dropout that stays on at test time (Wang et al. 2018, defensive dropout)."""
    return Fn(lambda z: F.dropout(z, share, training=True))


class Pruned(nn.Module):
    """Activations drawn with probabilities by their size; others are 0 (Dhillon et al. 2018, stochastic activation pruning)."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        chances = flat.abs() / flat.abs().sum(1, keepdim=True).clamp_min(1e-12)
        kept = 1 - (1 - chances) ** (self.share * flat.shape[1])
        return (flat * (torch.rand_like(flat) < kept) / kept.clamp_min(1e-6)).view_as(x)


class Votes(nn.Module):
    """Counts of the classes of noisy copies (Cohen et al. 2019, without its certificate): random, and without a gradient."""

    def __init__(self, model: nn.Module, sigma: float, copies: int = 8) -> None:
        super().__init__()
        self.model, self.sigma, self.copies = model, sigma, copies

    def forward(self, x: Tensor) -> Tensor:
        counts = [F.one_hot(self.model(x + self.sigma * torch.randn_like(x)).argmax(1), 10) for _ in range(self.copies)]
        return torch.stack(counts).float().sum(0)


class RandomRounding(nn.Module):
    """Rounding up or down by chance: random and without a gradient (Athalye et al. 2018, of two defences at once)."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.levels + torch.rand_like(x)).floor() / self.levels
