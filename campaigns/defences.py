"""Catalogue of planted defences: each wraps a network that is not robust, or hardly, and beside it is what they hide."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from digit_nets import Digits, Net, fit, trained
from masking import (
    Band,
    Decoy,
    Fn,
    Jpeg,
    NotANumber,
    Watchful,
    WinnersTakeAll,
    bit_depth,
    lying,
    noisy_gradient,
    one_hot,
    random_gradient,
    reversed_gradient,
    saturating,
    wave,
)
from purifying import Codebook, Distance, FallBack, Projected, Rejecting, Remembering, Stable, TotalVariation
from randomised import Noise, Pruned, RandomRounding, Resized, Votes, dropped
from torch import Tensor, nn


@dataclass(frozen=True)
class Defence:
    """``model`` is what a user would hand in; ``stand_ins`` are what an adaptive attack climbs in its place.

    ``source``: the network in it, whose weights an attacker has, for attacks through it (None: not given).
    """

    name: str
    kind: str
    model: nn.Module
    stand_ins: tuple[nn.Module, ...]
    source: Net | None = None
    rejects: bool = False


@dataclass(frozen=True)
class Bases:
    """Networks that defences are put into: a natural one, another one, and one after some adversarial training."""

    data: Digits
    seed: int = 0
    made: dict[str, Net] = field(default_factory=dict)

    def _make(self, name: str, make: Callable[[], Net]) -> Net:
        if name not in self.made:
            self.made[name] = make()
        return copy.deepcopy(self.made[name])

    @property
    def natural(self) -> Net:
        return self._make("natural", lambda: trained(self.data, seed=self.seed))

    @property
    def other(self) -> Net:
        return self._make("other", lambda: trained(self.data, seed=self.seed + 1, epochs=2))

    @property
    def weak(self) -> Net:
        return self._make("weak", lambda: trained(self.data, seed=self.seed, eps=0.05))


def before(net: Net, layer: nn.Module) -> Net:
    """``net`` with a layer before the first one."""
    net.before = layer
    return net


def beyond(net: nn.Module, change: Callable[[Tensor], Tensor]) -> nn.Module:
    """``net`` with its logits changed."""
    return nn.Sequential(net, Fn(change))


def _banded(net: Net, x: Tensor, width: float, *, smooth: bool) -> Net:
    with torch.no_grad():
        first = net.activation(net.conv1(x))
        net.after[0] = Band(first, width, smooth=smooth)
        net.after[1] = Band(net.activation(net.conv2(net.after[0](first))), width, smooth=smooth)
    return net


def _floored(net: Net, step: float) -> Net:
    net.after[1] = Fn(lambda z: (z / step).floor() * step)
    return net


def _saturated(bases: Bases) -> nn.Module:
    net = bases.natural
    with torch.no_grad():
        squash = saturating(net.features(bases.data.x), 60.0)
        z = squash(net.features(bases.data.x))
    head = nn.Linear(z.shape[1], 10)
    fit(head, Digits(z, bases.data.y, bases.data.test), seed=bases.seed, epochs=8)
    return nn.Sequential(Fn(net.features), squash, head)


def _winners(bases: Bases) -> Net:
    net = Net(activation=WinnersTakeAll(0.15))
    fit(net, bases.data, seed=bases.seed)
    return net


def _smooth_winners(net: Net) -> Net:
    smooth = copy.deepcopy(net)
    winners = net.activation
    smooth.activation = Fn(lambda z: z + (winners(z) - z).detach())
    return smooth


def _quiet(net: Net, layer: nn.Module) -> Net:
    net.after[1] = layer
    return net


MAKERS: dict[str, tuple[str, Callable[[Bases], tuple[nn.Module, tuple[nn.Module, ...]]]]] = {
    "pixels rounded to 3 bits": ("masking", lambda b: (before(b.natural, bit_depth(7)), (b.natural,))),
    "jpeg": ("masking", lambda b: (before(b.natural, Jpeg(0.25)), (b.natural,))),
    "hardmax": ("masking", lambda b: (beyond(b.natural, one_hot), (b.natural,))),
    "answers rounded": ("masking", lambda b: (beyond(b.natural, lambda z: (z / 2).round() * 2), (b.natural,))),
    "detached features": ("masking", lambda b: (_quiet(b.natural, Fn(lambda z: z.detach())), (b.natural,))),
    "floor of activations": ("masking", lambda b: (_floored(b.natural, 0.5), (b.natural,))),
    "saturated sigmoids": ("masking", lambda b: (_saturated(b), (b.natural,))),
    "shattered": ("masking", lambda b: (before(b.natural, Fn(wave)), (b.natural,))),
    "winners take all": ("masking", lambda b: _with(_winners(b), _smooth_winners)),
    "gradient reversed": ("masking", lambda b: (before(b.natural, lying(reversed_gradient)), (b.natural,))),
    "gradient random": ("masking", lambda b: (before(b.natural, lying(random_gradient)), (b.natural,))),
    "gradient under noise": ("masking", lambda b: (before(b.natural, lying(noisy_gradient)), (b.natural,))),
    "gradient of a decoy": ("masking", lambda b: (Decoy(b.natural, b.other), (b.natural,))),
    "gradient no number": ("masking", lambda b: (before(b.natural, NotANumber()), (b.natural,))),
    "other answers to gradients": ("masking", lambda b: (Watchful(b.natural), (b.natural,))),
    "logits times 1e4": ("temperature", lambda b: (beyond(b.natural, lambda z: z * 1e4), (b.natural,))),
    "logits times 1e-8": ("temperature", lambda b: (beyond(b.natural, lambda z: z * 1e-8), (b.natural,))),
    "temperature of its own": (
        "temperature",
        lambda b: (
            beyond(b.natural, lambda z: z * 10 ** (8 * torch.frac(1e3 * z[:, :1].detach().abs()) - 4)),
            (b.natural,),
        ),
    ),
    "noise": ("randomised", lambda b: (before(b.natural, Noise(0.15)), (b.natural,))),
    "resized at random": ("randomised", lambda b: (before(b.natural, Resized()), (b.natural,))),
    "dropout at test": ("randomised", lambda b: (_quiet(b.natural, dropped(0.5)), (b.natural,))),
    "activations pruned": ("randomised", lambda b: (_quiet(b.natural, Pruned(0.3)), (b.natural,))),
    "votes of noisy copies": ("randomised", lambda b: (Votes(b.natural, 0.1), (b.natural,))),
    "rounded at random": ("randomised", lambda b: (before(b.natural, RandomRounding(7)), (b.natural,))),
    "band of activations": (
        "band",
        lambda b: (_banded(b.weak, b.data.x, 1.0, smooth=False), (_banded(b.weak, b.data.x, 1.0, smooth=True), b.weak)),
    ),
    "stable head": ("through the source", lambda b: (Stable(b.weak), (b.weak,))),
    "total variation": (
        "purification",
        lambda b: (before(b.natural, TotalVariation()), (before(b.natural, TotalVariation(smooth=True)), b.natural)),
    ),
    "book of patches": (
        "purification",
        lambda b: (
            before(b.natural, Codebook(b.data.x, 400, b.seed)),
            (before(b.natural, Codebook(b.data.x, 400, b.seed, smooth=True)), b.natural),
        ),
    ),
    "principal components": (
        "purification",
        lambda b: (before(b.natural, Projected(b.data.x, 20)), (before(b.natural, Projected(b.data.x, 20)),)),
    ),
    "detector that rejects": ("detector", lambda b: (Rejecting(b.weak, _distance(b, 0.9)), (b.weak,))),
    "detector that falls back": (
        "detector",
        lambda b: (FallBack(b.weak, _distance(b, 0.5), b.data.x, b.data.y), (b.weak,)),
    ),
    "remembers queries": ("detector", lambda b: (Remembering(b.natural, 0.2), (b.natural,))),
}


def _with(net: Net, smooth: Callable[[Net], Net]) -> tuple[nn.Module, tuple[nn.Module, ...]]:
    return net, (smooth(net),)


def _distance(bases: Bases, quantile: float = 0.98) -> Distance:
    return Distance(bases.weak, bases.data.x, bases.data.y, quantile)


def defence(name: str, bases: Bases) -> Defence:
    """One of :data:`MAKERS`, in evaluation mode."""
    kind, make = MAKERS[name]
    model, stand_ins = make(bases)
    source = bases.weak if kind == "through the source" else None
    return Defence(name, kind, model.eval(), tuple(s.eval() for s in stand_ins), source, rejects="rejects" in name)
