"""Attacks on networks whose gradient, or whose logits, are not numbers: does any image come out as robust?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

import torch
from helpers import make_classifier
from torch import Tensor, nn

from robust_transfer.attacks import ATTACKS, Knowledge
from robust_transfer.engine import Engine
from robust_transfer.mixed_head import Mixing
from robust_transfer.mixture import mixture
from robust_transfer.threat import Threat

IMAGES = 12
REFERENCE = "pyautoattack"


class NoNumber(torch.autograd.Function):
    """The identity, whose gradient is a given value."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: float) -> Tensor:
        ctx.value = value
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return torch.full_like(gradient, ctx.value), None


def verdicts(seed: int) -> Iterator[Mapping[str, Any]]:
    """Each attack of the registry that is installed, on gradients and logits that are NaN or infinite."""
    for name in ATTACKS.names():
        if name == REFERENCE and find_spec(name) is None:  # an extra
            continue
        for what in ("gradient", "logits"):
            if what == "gradient" and ATTACKS.get(name).gradient_free:
                continue  # it asks for none
            for value in (math.nan, math.inf):
                robust = _robust(name, what, value, seed)
                yield {"trouble": "blind", "attack": name, "what": what, "value": str(value), "robust": robust}


def _robust(name: str, what: str, value: float, seed: int) -> int:
    cls, known = ATTACKS.get(name), None
    x = torch.rand(IMAGES, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    source = make_classifier(seed=seed + 1).eval()
    model: nn.Module = make_classifier(seed=seed + 1).with_head(10, seed=seed + 2).eval()
    if cls.needs_parts:
        model = mixture(
            source.copy(), make_classifier(seed=seed + 3).eval(), Mixing(share=0.7, scale=5.0, power=2.0, shift=-0.5)
        )
    if cls.needs_source:
        known = Knowledge(source, x, source(x).argmax(1))
    labels = model(x).argmax(1)
    for network in (model, source):
        body: Any = network.body
        if what == "gradient":
            body.register_forward_pre_hook(lambda _, given: (NoNumber.apply(given[0], value), *given[1:]))
        else:
            network.register_forward_hook(lambda _, __, out: torch.full_like(out, value))
    effort: dict[str, Any] = {cls.count: 3} if cls.count else {}
    attack = cls(only="apgd-ce", steps=3) if name == REFERENCE else cls(**effort)  # type: ignore[call-arg]
    engine, threat = Engine(folded=False), Threat(norm="linf", eps=0.01)
    result = attack(model, x, labels, torch.arange(IMAGES), threat, engine=engine, knowledge=known)
    return int((~result.broken).sum())
