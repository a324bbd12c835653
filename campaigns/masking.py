"""Layers that hide a network's gradient: rounding, thresholds, saturation, and backward passes that lie."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Fn(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.function(x))


def bit_depth(levels: int) -> nn.Module:
    """Pixels rounded to so many steps (Xu et al. 2018, feature squeezing)."""
    return Fn(lambda x: (x * levels).round() / levels)


class Jpeg(nn.Module):
    """Rounded coefficients of a cosine transform of the 8 x 8 block, coarser where frequencies are high (Guo et al. 2018)."""

    def __init__(self, coarse: float, side: int = 8) -> None:
        super().__init__()
        k = torch.arange(side).float()
        basis = torch.cos(math.pi * (k[None] + 0.5) * k[:, None] / side) * math.sqrt(2 / side)
        basis[0] /= math.sqrt(2)
        self.register_buffer("basis", basis)
        self.register_buffer("step", coarse * (1 + (k[None] + k[:, None]) / side))

    def forward(self, x: Tensor) -> Tensor:
        basis, step = cast(Tensor, self.basis), cast(Tensor, self.step)
        coefficients = basis @ x @ basis.T
        return basis.T @ ((coefficients / step).round() * step) @ basis


class Band(nn.Module):
    """Values near a channel's mean become it, and its gradient with them is 0 (Amini et al. 2024: MeanSparse)."""

    def __init__(self, example: Tensor, width: float, *, smooth: bool = False) -> None:
        super().__init__()
        over = (0, 2, 3)
        self.register_buffer("mean", example.mean(over, keepdim=True))
        self.register_buffer("band", width * example.std(over, keepdim=True))
        self.smooth = smooth

    def forward(self, x: Tensor) -> Tensor:
        mean, band = cast(Tensor, self.mean), cast(Tensor, self.band)
        flat = torch.where((x - mean).abs() < band, mean, x)
        return x + (flat - x).detach() if self.smooth else flat


class WinnersTakeAll(nn.Module):
    """The highest ``share`` of all activations of an image; the others are 0 (Xiao et al. 2020, k-WTA)."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        least = flat.topk(max(1, int(self.share * flat.shape[1])), dim=1).values[:, -1:]
        return (flat * (flat >= least)).view_as(x)


def saturating(example: Tensor, slope: float) -> nn.Module:
    """Two steep sigmoids, one on the other: features are 0 or 1 and gradients vanish (Nayebi & Ganguli 2017)."""
    middle, spread = example.mean(0), example.std(0).clamp_min(1e-3)
    return Fn(lambda z: torch.sigmoid(slope * (torch.sigmoid(slope * (z - middle) / spread) - 0.5)))


def wave(x: Tensor) -> Tensor:
    """A fast wave in every pixel: nothing in the logits, nearly all of the gradient (Athalye et al. 2018, shattered)."""
    return x + 3e-4 * torch.sin(1e5 * x)


class _Backward(torch.autograd.Function):
    """Identity whose gradient is what ``change(x, gradient)`` makes of it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, change: Any) -> Tensor:
        ctx.save_for_backward(x)
        ctx.change = change
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.change(ctx.saved_tensors[0], gradients[0]), None


def lying(change: Any) -> nn.Module:
    """Layer that changes nothing but the gradient (Athalye et al. 2018: gradients that are no gradients)."""
    return Fn(lambda x: _Backward.apply(x, change))


def reversed_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    return -gradient


def random_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    return torch.randn_like(gradient)


def noisy_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    """The true one, beneath eight times as much of a pattern that is the same at every query."""
    size: Tensor = gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1) / math.sqrt(gradient[0].numel())
    pattern = torch.frac(1e4 * torch.sin(1e4 * x)) * 3.4
    noisy: Tensor = gradient + 8 * size * pattern
    return noisy


class Decoy(nn.Module):
    """The logits of one network and the gradient of another (Athalye et al. 2018; Goodman & Wei 2019, on decoys)."""

    def __init__(self, model: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.model, self.other = model, other

    def forward(self, x: Tensor) -> Tensor:
        other = self.other(x)
        return cast(Tensor, other + (self.model(x) - other).detach())


class NotANumber(nn.Module):
    """A term that is 0 and whose gradient is no number (root of 0), as an unguarded norm has it (Croce et al. 2022)."""

    def forward(self, x: Tensor) -> Tensor:
        return x + (x - x.detach()).square().sum(1, keepdim=True).sqrt()


class Watchful(nn.Module):
    """Hides its gradient from whoever asks for one: other logits where gradients are on (Athalye et al. 2018, detectors)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x)
        return logits.flip(1) if torch.is_grad_enabled() else logits


def one_hot(logits: Tensor) -> Tensor:
    """Labels alone (Papernot et al. 2017, on masking by hard labels)."""
    return F.one_hot(logits.argmax(1), logits.shape[1]).to(logits.dtype)
