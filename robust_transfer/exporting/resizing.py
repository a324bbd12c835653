"""Pillow's resizing as products with matrices, to the pixel: what an exported network does to images of any size."""

from __future__ import annotations

import math
from collections.abc import Callable

import PIL
import torch
from packaging.version import Version
from torch import Tensor, nn

from robust_transfer.errors import ConfigError
from robust_transfer.preprocessing import Geometry

TALL_FIRST = Version(PIL.__version__) >= Version("13")
BITS = 22  # of the fraction of a weight: Pillow's weights are whole numbers


def _box(x: Tensor) -> Tensor:
    return ((x > -0.5) & (x <= 0.5)).double()


def _bilinear(x: Tensor) -> Tensor:
    return (1 - x.abs()).clamp_min(0)


def _bicubic(x: Tensor) -> Tensor:
    x = x.abs()
    near, far = (1.5 * x - 2.5) * x * x + 1, -0.5 * (((x - 5) * x + 8) * x - 4)
    return torch.where(x < 1, near, far) * (x < 2)


def _hamming(x: Tensor) -> Tensor:
    # single precision's 0.54 and 0.46, as Pillow has them
    return _sinc(x) * (0.5400000214576721 + 0.46000000834465027 * (math.pi * x).cos()) * (x.abs() < 1)


def _lanczos(x: Tensor) -> Tensor:
    return _sinc(x) * _sinc(x / 3) * ((x >= -3) & (x < 3))


def _sinc(x: Tensor) -> Tensor:
    angle = math.pi * torch.where(x == 0, 1.0, x)
    return torch.where(x == 0, 1.0, angle.sin() / angle)


KERNELS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {  # and how far each reaches
    "box": (_box, 0.5),
    "bilinear": (_bilinear, 1.0),
    "hamming": (_hamming, 1.0),
    "bicubic": (_bicubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}


class Resizing(nn.Module):
    """Images uint8 ``(N, H, W, 3)`` of any size, resized and cropped as Pillow does it: whole numbers ``(N, 3, size, size)``.

    Pillow resizes bytes along one side, rounds, and then along the other, by weights that are whole numbers over 2^22. Here
    both are products of float64, in which such sums are exact in any order. The antialiased ``Resize`` of ONNX does neither.
    Since 13.0 Pillow begins with the height where that shrinks by more than twice as many pixels as the width.
    """

    def __init__(self, how: Geometry) -> None:
        super().__init__()
        if how.interpolation not in KERNELS:
            raise ConfigError(
                f"resizing by {how.interpolation!r} cannot be inside of an export: only {', '.join(KERNELS)} can"
            )
        self.how = how

    def forward(self, pixels: Tensor) -> Tensor:
        """Resized and cropped; float64."""
        x = pixels.permute(0, 3, 1, 2).double()
        rows, columns = (torch.arange(side, dtype=torch.float64, device=x.device) for side in x.shape[2:])
        height, width = rows.amax(0) + 1, columns.amax(0) + 1
        tall, wide = self._whole(height, width), self._whole(width, height)
        down, across = self._weights(rows, height, tall), self._weights(columns, width, wide)
        found = _summed(_summed(x, across).transpose(2, 3), down).transpose(2, 3)
        if not TALL_FIRST:
            return found
        shrinks = height - tall > 2 * (width - wide).clamp_min(0)
        # both, as a branch would have to be traced: torch.cond gives up at a process's ninth export
        return torch.where(shrinks, _summed(_summed(x.transpose(2, 3), down).transpose(2, 3), across), found)

    def _whole(self, side: Tensor, other: Tensor) -> Tensor:
        """Length of a side before cropping."""
        aim = self.how.resized
        if self.how.resize == "squash":
            return torch.full_like(side, aim)
        return torch.floor(aim * side / torch.minimum(side, other))

    def _weights(self, at: Tensor, side: Tensor, whole: Tensor) -> Tensor:
        """Weights ``(size, side)`` of the pixels ``at`` in each of the central ``size``; what lies outside has none: black."""
        size = self.how.size
        start = torch.where(whole >= size, torch.round((whole - size) / 2), -torch.floor((size - whole) / 2))
        each = (start + torch.arange(size, dtype=torch.float64, device=at.device))[:, None]
        kernel, reach = KERNELS[self.how.interpolation]
        step = side / whole
        stretch = step.clamp_min(1)
        centre, support = (each + 0.5) * step, reach * stretch
        first, end = torch.floor(centre - support + 0.5), torch.floor(centre + support + 0.5)
        values = kernel((at - centre + 0.5) * (1 / stretch)) * ((at >= first) & (at < end))
        total = values.sum(1, keepdim=True)
        shares = values / torch.where(total == 0, 1.0, total) * 2**BITS
        whole_numbers: Tensor = shares.sign() * torch.floor(shares.abs() + 0.5)  # halves away from zero
        return whole_numbers * ((each >= 0) & (each < whole))


def _summed(x: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of the last dimension, rounded to bytes as Pillow rounds them."""
    return torch.floor((x @ weights.T + 2 ** (BITS - 1)) / 2**BITS).clamp(0, 255)
