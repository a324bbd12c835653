"""Regions: where a layer's outputs can be for all images in a ball around one, as a box and as an l2 distance.

A box goes through layers by interval arithmetic (Gowal et al. 2018), the distance by bounds of their norms; each makes the
other smaller where it can. All in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_transfer.certification.norms import convolution_norm, linear_norm

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Region:
    """Box ``[lower, upper]`` ``(B, ...)`` around ``centre``, the image's own; ``shift`` ``(B,)``: no point is farther from it.

    Only what lies in both can be reached.
    """

    centre: Tensor
    lower: Tensor
    upper: Tensor
    shift: Tensor

    @classmethod
    def ball(cls, x: Tensor, eps: Tensor, norm: str) -> Region:
        """Images within ``eps`` ``(B,)`` of ``x`` ``(B, C, H, W)`` that stay in [0, 1]."""
        x, eps = x.double(), eps.double()
        wide = _spread(eps, x)
        lower, upper = (x - wide).clamp_min(0), (x + wide).clamp_max(1)
        longest = eps if norm == "l2" else eps * math.prod(x.shape[1:]) ** 0.5
        return cls(x, lower, upper, longest).tight()

    def tight(self) -> Region:
        """Same, each of box and distance shortened by the other."""
        reach = torch.maximum(self.upper - self.centre, self.centre - self.lower)
        shift = torch.minimum(self.shift, reach.flatten(1).norm(dim=1))
        wide = _spread(shift, self.centre)
        lower, upper = torch.maximum(self.lower, self.centre - wide), torch.minimum(self.upper, self.centre + wide)
        return Region(self.centre, lower, upper, shift)

    def moved(self, how: Map) -> Region:
        """After what only puts entries elsewhere, or adds constant ones."""
        return Region(how(self.centre), how(self.lower), how(self.upper), self.shift)

    def rising(self, how: Map, norm: float) -> Region:
        """After a function that no entry lets fall, and that stretches no distance by more than ``norm``."""
        return Region(how(self.centre), how(self.lower), how(self.upper), norm * self.shift).tight()

    def scaled(self, factor: Tensor, offset: Tensor | float = 0.0) -> Region:
        """``factor * x + offset``, entry by entry."""
        ends = factor * self.lower, factor * self.upper
        low, high = torch.minimum(*ends) + offset, torch.maximum(*ends) + offset
        return Region(factor * self.centre + offset, low, high, float(factor.abs().amax()) * self.shift).tight()

    def affine(self, whole: Map, parts: Map, rows: Tensor, norm: float) -> Region:
        """After an affine layer ``whole``; ``parts``: its linear part with absolute weights.

        ``rows``: the l2 norm of each output's weights, shaped for the outputs; ``norm``: the layer's own.
        """
        centre, middle = whole(self.centre), whole((self.lower + self.upper) / 2)
        half, reach = parts((self.upper - self.lower) / 2), rows * _spread(self.shift, centre)
        lower, upper = torch.maximum(middle - half, centre - reach), torch.minimum(middle + half, centre + reach)
        return Region(centre, lower, upper, norm * self.shift).tight()

    def plus(self, other: Region) -> Region:
        """Sum of two branches."""
        sums = (getattr(self, name) + getattr(other, name) for name in ("centre", "lower", "upper", "shift"))
        return Region(*sums).tight()


def joined(parts: Sequence[Region], dim: int) -> Region:
    """Branches side by side."""
    centre, lower, upper = (torch.cat([getattr(p, name) for p in parts], dim) for name in ("centre", "lower", "upper"))
    return Region(centre, lower, upper, torch.stack([p.shift for p in parts]).norm(dim=0))


def through_linear(region: Region, layer: nn.Linear) -> Region:
    """After a linear layer."""
    weight, bias = layer.weight, layer.bias
    rows = weight.norm(dim=1)
    return region.affine(
        lambda x: F.linear(x, weight, bias), lambda x: F.linear(x, weight.abs()), rows, linear_norm(weight)
    )


def through_convolution(region: Region, layer: nn.Conv2d) -> Region:
    """After a convolution, with zeros around the image."""
    weight, bias = layer.weight, layer.bias
    how: Any = (layer.stride, layer.padding, layer.dilation, layer.groups)
    rows = weight.flatten(1).norm(dim=1).view(1, -1, 1, 1)
    return region.affine(
        lambda x: F.conv2d(x, weight, bias, *how),
        lambda x: F.conv2d(x, weight.abs(), None, *how),
        rows,
        convolution_norm(layer),
    )


def through_average(region: Region, size: Sequence[int], stride: Sequence[int]) -> Region:
    """After averages of windows, without padding."""
    area = math.prod(size)
    overlap = math.prod(math.ceil(k / s) for k, s in zip(size, stride, strict=True))
    # every row of the matrix sums to 1, every column to overlap / area at most
    return region.rising(lambda x: F.avg_pool2d(x, tuple(size), tuple(stride)), (overlap / area) ** 0.5)


def through_maximum(region: Region, layer: nn.MaxPool2d) -> Region:
    """After maxima of windows: an entry is in so many of them, and changes each by its own change at most."""
    size, stride = pair(layer.kernel_size), pair(layer.stride)
    overlap = math.prod(math.ceil(k / s) for k, s in zip(size, stride, strict=True))
    return region.rising(layer, overlap**0.5)


def pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    """Size of a window from either way of writing it."""
    return (value, value) if isinstance(value, int) else tuple(value)


def _spread(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *([1] * (like.dim() - 1)))
