"""Heads: from penultimate features to logits, linear, with hidden layers, or of two networks that are mixed."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from robust_transfer.config import config
from robust_transfer.errors import ConfigError
from robust_transfer.mixed_head import MixedHead
from robust_transfer.randomness import Address


@config
class HeadSpec:
    """Layers between features and logits: ``hidden`` widths (none: a linear head), each followed by ReLU.

    With ``batch_norm`` before it, and ``dropout`` (a probability) after it. ``parts``: of a :class:`MixedHead`, how many
    features each of its two networks has.
    """

    hidden: tuple[int, ...] = ()
    batch_norm: bool = False
    dropout: float = 0.0
    parts: tuple[int, int] | tuple[()] = ()

    def __post_init__(self) -> None:
        if min(self.hidden, default=1) < 1:
            raise ConfigError(f"a head's hidden layers need at least one unit each, not {min(self.hidden)}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout is a probability, at least 0 and below 1, not {self.dropout}")
        if self.parts and (self.hidden or min(self.parts) < 1):
            raise ConfigError("the head of a mixture has two linear heads, on at least one feature each")


class MLP(nn.Module):
    """Multilayer perceptron from ``(B, in_features)`` to ``(B, out_features)``.

    Features are first standardised by ``mean`` and ``std`` ``(in_features,)``, which are not learned.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, in_features: int, out_features: int, spec: HeadSpec) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.register_buffer("mean", torch.zeros(in_features))
        self.register_buffer("std", torch.ones(in_features))
        layers, width = list[nn.Module](), in_features
        for units in spec.hidden:
            layers += [nn.Linear(width, units), *([nn.BatchNorm1d(units)] if spec.batch_norm else []), nn.ReLU()]
            layers += [nn.Dropout(spec.dropout)] if spec.dropout else []
            width = units
        self.layers = nn.Sequential(*layers, nn.Linear(width, out_features))

    def forward(self, features: Tensor) -> Tensor:
        """Logits of features."""
        return cast(Tensor, self.layers((features - self.mean) / self.std))


Head = nn.Linear | MLP | MixedHead


def initial_head_rng() -> torch.Generator:
    """Generator for a network's own first head: a separate stream, independent of earlier draws."""
    return torch.Generator().manual_seed(0)


def replacement_head_rng(seed: int) -> torch.Generator:
    """Generator for a replacement head, independent of the one that initialised the network's own head.

    Features keep the directions of the head that they were trained with: drawn once more, it would know the classes.
    """
    return Address(seed, "new head").generator()


def new_head(num_features: int, num_classes: int, generator: torch.Generator) -> nn.Linear:
    """Linear layer: weights normal with variance ``1 / num_features``, biases 0."""
    head = nn.Linear(num_features, num_classes)
    with torch.no_grad():
        head.weight.normal_(std=num_features**-0.5, generator=generator)
        head.bias.zero_()
    return head


def new_mlp(num_features: int, num_classes: int, spec: HeadSpec, generator: torch.Generator) -> MLP:
    """Perceptron (He et al. 2015), its last layer as :func:`new_head` draws it."""
    head = MLP(num_features, num_classes, spec)
    linear = [layer for layer in head.layers if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for layer in linear:
            gain = 1.0 if layer is linear[-1] else 2.0
            layer.weight.normal_(std=(gain / layer.in_features) ** 0.5, generator=generator)
            layer.bias.zero_()
    return head


def fresh_head(num_features: int, num_classes: int, spec: HeadSpec, generator: torch.Generator) -> Head:
    """Head of any kind, built as ``spec`` says. Raises :class:`ConfigError` where it is for other features."""
    if spec.hidden:
        return new_mlp(num_features, num_classes, spec, generator)
    if not spec.parts:
        return new_head(num_features, num_classes, generator)
    if sum(spec.parts) != num_features:
        raise ConfigError(f"the head is for {sum(spec.parts)} features, the networks have {num_features}")
    head = MixedHead(spec.parts, num_classes)
    head.first, head.second = (new_head(width, num_classes, generator) for width in spec.parts)
    return head
