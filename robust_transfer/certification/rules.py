"""Rules by which regions pass through layers: one for each layer, function and method that has a known bound.

A rule that does not fit the arguments it is given returns None: the network is then refused.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from robust_transfer.certification.regions import (
    Region,
    joined,
    pair,
    through_average,
    through_convolution,
    through_linear,
    through_maximum,
)


def _convolution(region: Region, layer: nn.Conv2d) -> Region | None:
    return through_convolution(region, layer) if layer.padding_mode == "zeros" else None


def _norm(region: Region, layer: nn.BatchNorm1d | nn.BatchNorm2d) -> Region | None:
    if layer.running_mean is None or layer.running_var is None:
        return None
    factor = (layer.running_var + layer.eps).rsqrt()
    offset = -layer.running_mean * factor
    if layer.weight is not None:
        factor, offset = factor * layer.weight, offset * layer.weight + layer.bias
    shape = (1, -1, *([1] * (region.centre.dim() - 2)))
    return region.scaled(factor.view(shape), offset.view(shape))


def _leaky(region: Region, negative_slope: float = 0.01, inplace: bool = False) -> Region | None:
    if negative_slope < 0:
        return None
    return region.rising(lambda x: F.leaky_relu(x, negative_slope), max(1.0, negative_slope))


def _relu(region: Region, *_: Any, **__: Any) -> Region:
    return region.rising(F.relu, 1.0)


def _average(
    region: Region, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False
) -> Region | None:
    if padding not in (0, (0, 0)) or ceil_mode:
        return None
    return through_average(region, pair(kernel_size), pair(stride or kernel_size))


def _global(region: Region, output_size: Any) -> Region | None:
    whole = tuple(region.centre.shape[2:])
    return through_average(region, whole, whole) if output_size in (1, (1, 1)) else None


def _mean(region: Region, dim: Any, keepdim: bool = False) -> Region | None:
    dims = {d % region.centre.dim() for d in ((dim,) if isinstance(dim, int) else dim)}
    if dims != {2, 3}:
        return None
    pooled = _global(region, 1)
    return pooled if keepdim or pooled is None else pooled.moved(lambda x: x.flatten(1))


def _sum(one: Any, other: Any) -> Region | None:
    if isinstance(one, Region) and isinstance(other, Region):
        return one.plus(other) if one.centre.shape == other.centre.shape else None
    return None


def _flat(region: Region, start_dim: int = 0, end_dim: int = -1) -> Region | None:
    return region.moved(lambda x: x.flatten(start_dim, end_dim)) if start_dim >= 1 else None


def _shaped(region: Region, *shape: Any) -> Region | None:
    sizes = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple) else shape
    return region.moved(lambda x: x.reshape(sizes)) if sizes[0] == len(region.centre) else None


def _padded(region: Region, pad: Any, mode: str = "constant", value: Any = None) -> Region | None:
    return region.moved(lambda x: F.pad(x, pad, value=value)) if mode == "constant" else None


def _same(region: Region, *_: Any, **__: Any) -> Region:
    return region


def _kept_size(region: Region, *index: Any) -> Any:
    return region.centre.size(*index)


MODULES: dict[type[nn.Module], Callable[[Region, Any], Region | None]] = {
    nn.Linear: through_linear,
    nn.Conv2d: _convolution,
    nn.BatchNorm1d: _norm,
    nn.BatchNorm2d: _norm,
    nn.ReLU: _relu,
    nn.LeakyReLU: lambda region, layer: _leaky(region, layer.negative_slope),
    nn.AvgPool2d: lambda r, a: _average(r, a.kernel_size, a.stride, a.padding, a.ceil_mode),
    nn.AdaptiveAvgPool2d: lambda region, layer: _global(region, layer.output_size),
    nn.MaxPool2d: lambda region, layer: (
        through_maximum(region, layer) if not layer.return_indices and layer.dilation in (1, (1, 1)) else None
    ),
    nn.Flatten: lambda region, layer: _flat(region, layer.start_dim, layer.end_dim),
    nn.Identity: _same,
    nn.Dropout: _same,  # in evaluation mode
}
FUNCTIONS: dict[Any, Callable[..., Region | None]] = {
    F.relu: _relu,
    torch.relu: _relu,
    F.leaky_relu: _leaky,
    F.avg_pool2d: _average,
    F.adaptive_avg_pool2d: _global,
    torch.flatten: _flat,
    F.pad: _padded,
    F.dropout: lambda region, p=0.5, training=True, inplace=False: None if training else region,
    operator.add: _sum,
    operator.iadd: _sum,
    torch.add: _sum,
    torch.cat: lambda parts, dim=0: (
        joined(parts, dim) if dim >= 1 and all(isinstance(p, Region) for p in parts) else None
    ),
    getattr: lambda region, name: getattr(region.centre, name) if name in ("shape", "ndim") else None,
}
METHODS: dict[str, Callable[..., Region | None]] = {
    "relu": _relu,
    "flatten": _flat,
    "view": _shaped,
    "reshape": _shaped,
    "mean": _mean,
    "size": _kept_size,
    "contiguous": _same,
    "float": _same,
    "add": _sum,
}
