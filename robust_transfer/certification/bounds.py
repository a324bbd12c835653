"""Bounds of a network's features: its graph, layer by layer, computed with regions in place of tensors."""

from __future__ import annotations

import copy
import operator
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from robust_transfer.certification.regions import (
    Region,
    joined,
    pair,
    through_average,
    through_convolution,
    through_linear,
    through_maximum,
)
from robust_transfer.classifier import Classifier
from robust_transfer.engine import fuse
from robust_transfer.errors import ConfigError
from robust_transfer.heads import MLP


class Bounds(nn.Module):
    """Bounds of the last linear layer's inputs, ``layer``'s: hidden layers of a head count as features.

    Raises :class:`ConfigError` for a network that has layers without a known bound.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        how = classifier.normalise.how
        if how.per_image:
            raise ConfigError(
                "feature-shift knows no bound of standardising each image by itself: certify by smoothing, or train a network "
                "whose normalisation is per channel"
            )
        own = classifier.normalise
        self.mean, self.std = own.mean.cpu().double(), own.std.cpu().double()
        self.parts, self.layer = nn.ModuleList([_graph(classifier.body)]), _last(classifier.head)
        self.standard: tuple[Tensor, Tensor] | None = None
        if isinstance(classifier.head, MLP):
            head = copy.deepcopy(classifier.head).cpu().double().eval()
            self.standard = head.mean, head.std
            self.parts.append(_graph(nn.Sequential(*list(head.layers)[:-1])))

    def features(self, region: Region) -> Region:
        """Region of the features of images in ``region``."""
        found: Region = _Interpreter(self.parts[0]).run(region.scaled(1 / self.std, -self.mean / self.std))
        if self.standard is None:
            return found
        mean, std = self.standard
        inner: Region = _Interpreter(self.parts[1]).run(found.scaled(1 / std, -mean / std))
        return inner

    def margins(self, features: Region) -> tuple[Tensor, Tensor, Tensor]:
        """Predicted classes ``(B,)``; for each class ``(B, K)`` the least margin over it, and its distance in the features.

        The margin over class ``k`` is at least what is left of it when the features move by their shift against ``w_y - w_k``,
        and at least its least value in the box. The class itself has infinity.
        """
        weight, bias = self.layer.weight, self.layer.bias
        logits = F.linear(features.centre, weight, bias)
        own = logits.argmax(1)
        across = weight[own][:, None] - weight  # (B, K, d)
        margin, length = logits.gather(1, own[:, None]) - logits, across.norm(dim=2)
        by_shift = margin - length * features.shift[:, None]
        middle, half = (features.lower + features.upper) / 2, (features.upper - features.lower) / 2
        offset = torch.einsum("bkd,bd->bk", across, middle - features.centre)
        in_box = margin + offset - torch.einsum("bkd,bd->bk", across.abs(), half)
        itself = F.one_hot(own, len(weight)).bool()
        least = torch.maximum(by_shift, in_box).masked_fill(itself, torch.inf)
        return own, least, (margin / length.clamp_min(1e-300)).masked_fill(itself, torch.inf)


def _last(head: nn.Module) -> nn.Linear:
    layer = head if isinstance(head, nn.Linear) else list(head.layers)[-1]  # type: ignore[arg-type]  # MLP
    assert isinstance(layer, nn.Linear)
    return copy.deepcopy(layer).cpu().double().requires_grad_(False)


def _graph(module: nn.Module) -> nn.Module:
    plain = copy.deepcopy(module).cpu().double().eval().requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return fuse(plain)  # batch norm after a convolution is part of it
        except Exception as error:  # tracing knows not every network, and says so in many ways
            told = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConfigError(f"feature-shift cannot follow this network layer by layer: {told}") from None


class _Interpreter(fx.Interpreter):
    """Runs a graph on regions. What has none among its arguments is computed as it is."""

    def __init__(self, graph: nn.Module) -> None:
        super().__init__(graph)
        self.extra_traceback = False  # errors are ours, and one sentence

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        layer = self.fetch_attr(target)
        for kind, rule in MODULES.items():
            if isinstance(layer, kind) and len(args) == 1 and isinstance(args[0], Region):
                found = rule(args[0], layer)
                if found is not None:
                    return found
        raise _unknown(f"{target} ({layer})")

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if not _regions(args, kwargs):
            return super().call_function(target, args, kwargs)
        return _by_rule(FUNCTIONS.get(target), args, kwargs, getattr(target, "__name__", str(target)))

    def call_method(self, target: Any, args: Any, kwargs: Any) -> Any:
        if not _regions(args, kwargs):
            return super().call_method(target, args, kwargs)
        return _by_rule(METHODS.get(target), args, kwargs, target)


def _by_rule(rule: Callable[..., Region | None] | None, args: Any, kwargs: Any, name: str) -> Region:
    try:
        found = rule(*args, **kwargs) if rule is not None else None
    except TypeError:  # an argument that the rule does not know
        found = None
    if found is None:
        raise _unknown(name)
    return found


def _unknown(what: str) -> ConfigError:
    return ConfigError(f"feature-shift knows no bound of {what}: certify by smoothing, which asks nothing of a network")


def _regions(args: Any, kwargs: Any) -> bool:
    found = list[Any]()
    fx.node.map_aggregate((args, kwargs), found.append)
    return any(isinstance(each, Region) for each in found)


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
