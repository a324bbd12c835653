"""Bounds of a network's features: its graph, layer by layer, computed with regions in place of tensors."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from robust_transfer.certification.regions import Region
from robust_transfer.certification.rules import FUNCTIONS, METHODS, MODULES
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
