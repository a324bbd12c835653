"""Training into which a number that is not finite is put: at which step, in which tensor, in which precision only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from typing_extensions import override

from robust_transfer.classifier import Classifier
from robust_transfer.training import Batch, NaturalObjective

KINDS = ("loss", "logits", "gradient", "weight", "statistic", "layer")


@dataclass(frozen=True)
class Spoil:
    """``kind`` of tensor that is spoilt with ``value`` at ``step``; ``place``: the layer; ``low_only``: in bfloat16 only."""

    kind: str
    step: int
    value: float
    place: int
    low_only: bool


class Spoilt(NaturalObjective):
    """Natural training with a :class:`Spoil` in it, every time that the step is taken."""

    def __init__(self, classifier: Classifier, spoil: Spoil) -> None:
        super().__init__(classifier, collapse_patience=400)
        self.spoil, self.now = spoil, False
        layers = [m for m in classifier.body.modules() if isinstance(m, nn.Conv2d)]
        self.layer = layers[spoil.place % len(layers)]
        if spoil.kind == "layer":
            self.layer.register_forward_hook(lambda _, __, out: out + spoil.value if self.now else out)

    @override
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        low = torch.is_autocast_enabled(batch.images.device.type)
        self.now = batch.step == self.spoil.step and (low or not self.spoil.low_only)
        out = super().forward(batch)
        return self._spoilt(out) if self.now else out

    def _spoilt(self, out: dict[str, Tensor]) -> dict[str, Tensor]:
        kind, value = self.spoil.kind, self.spoil.value
        if kind == "loss":
            return {**out, "loss": out["loss"] * value}
        if kind == "logits":
            return {**out, "logits": torch.cat([out["logits"][1:], out["logits"][:1] + value])}
        if kind == "statistic":
            norms = [m for m in self.modules() if isinstance(m, nn.BatchNorm2d) and m.running_var is not None]
            norms[self.spoil.place % len(norms)].running_var.data[0] = value  # type: ignore[union-attr]
        weight = self.layer.weight
        if kind == "gradient":
            weight.register_hook(lambda found: found + value if self.now else found)
        if kind == "weight":  # finite, and so is its gradient; their difference is not
            bias = self.classifier.get_parameter("head.bias")
            bias.data.fill_(-3.4e38)
            bias.register_hook(lambda found: torch.full_like(found, 3e38) if self.now else found)
        return out


VALUES = (math.nan, math.inf, -math.inf)
