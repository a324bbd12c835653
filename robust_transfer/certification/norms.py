"""Spectral norms of layers, bounded from above. Power iteration, which comes from below, would prove nothing."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

ROUNDING = 1 + 1e-9  # what float64 may have lost in a singular value


def linear_norm(weight: Tensor) -> float:
    """Largest singular value of a matrix."""
    return float(torch.linalg.matrix_norm(weight.double(), 2)) * ROUNDING


def convolution_norm(layer: nn.Conv2d) -> float:
    """Upper bound of the spectral norm of a convolution, whatever the image's size.

    The least of ``sqrt(kh kw)`` times the norm of each of four matrices of its weights (Singla & Feizi 2021, theorem 2), and of
    ``sqrt(|A|_1 |A|_inf)``. Where patches do not overlap it is the norm of the matrix on one patch, exactly. Zeros around
    the image and strides only take rows and columns away from a circular convolution. Groups do not share channels: the
    largest of them counts.
    """
    return max(_group(part, layer) for part in layer.weight.detach().double().chunk(layer.groups)) * ROUNDING


def _group(weight: Tensor, layer: nn.Conv2d) -> float:
    outputs, inputs, high, wide = weight.shape
    flat = weight.reshape(outputs, -1)
    if layer.stride[0] >= high and layer.stride[1] >= wide and layer.dilation == (1, 1):
        return float(torch.linalg.matrix_norm(flat, 2))
    four = (
        flat,
        weight.permute(0, 2, 3, 1).reshape(-1, inputs),
        weight.permute(0, 2, 1, 3).reshape(outputs * high, inputs * wide),
        weight.permute(0, 3, 1, 2).reshape(outputs * wide, inputs * high),
    )
    spectral = math.sqrt(high * wide) * min(float(torch.linalg.matrix_norm(each, 2)) for each in four)
    sums = weight.abs().sum((1, 2, 3)).amax() * weight.abs().sum((0, 2, 3)).amax()
    return min(spectral, float(sums.sqrt()))
