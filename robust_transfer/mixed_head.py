"""Head of a mixture of two networks in probability space (Bai et al. 2024, MixedNUTS): both linear heads, and the mixing."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_transfer.config import config
from robust_transfer.errors import ConfigError


@config
class Mixing:
    """Numbers of a mixture ``(1 - share) softmax(natural) + share softmax(M(robust))``.

    ``M(h) = scale * sgn(u) |u| ** power`` with ``u = GELU(LN(h) + shift)``; LN makes an image's K logits have mean 0 and
    variance 1. A share of at least a half lets the robust network have the last word where it is sure; a power below 1
    would have an infinite slope at 0.
    """

    share: float
    scale: float = 1.0
    power: float = 1.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        if not 0.5 <= self.share <= 1:
            raise ConfigError(f"the robust network's share is at least 0.5 and at most 1, not {self.share:g}")
        if self.scale <= 0 or self.power < 1:
            raise ConfigError(
                f"scale is positive and power at least 1, not {self.scale:g} and {self.power:g}: "
                "anything else would not keep the order of the logits"
            )


def raised(logits: Tensor, power: Tensor, shift: Tensor) -> Tensor:
    """``sgn(u) |u| ** power`` of ``u = GELU(LN(logits) + shift)``, ``(B, K)``: the map M but for its scale."""
    u = F.gelu(F.layer_norm(logits, logits.shape[-1:]) + shift)
    return u.sign() * u.abs().pow(power)


def mixed(natural: Tensor, robust: Tensor, rest: Tensor) -> Tensor:
    """``log((1 - rest) softmax(robust) + rest softmax(natural))``, ``(B, K)``, exact in the tails: no softmax underflows."""
    return torch.logaddexp(rest.log() + natural.log_softmax(-1), torch.log1p(-rest) + robust.log_softmax(-1))


class MixedHead(nn.Module):
    """Features of two networks side by side, ``(B, d1 + d2)``, to the log-probabilities of their mixture ``(B, K)``.

    ``first`` is the robust network's head, ``second`` the natural one's. The numbers of the mixture are part of the state,
    so that other numbers are other weights; in place of the share its ``rest`` is kept, which is small and stays exact in half
    precision.
    """

    rest: Tensor
    scale: Tensor
    power: Tensor
    shift: Tensor

    def __init__(self, parts: tuple[int, int], out_features: int) -> None:
        super().__init__()
        self.parts, self.out_features = parts, out_features
        self.in_features = sum(parts)
        self.first, self.second = (nn.Linear(width, out_features) for width in parts)
        for name in ("rest", "scale", "power", "shift"):
            self.register_buffer(name, torch.tensor(0.0))
        self.set(Mixing(share=0.5))

    def set(self, how: Mixing) -> MixedHead:
        """Take the numbers of ``how``."""
        for name, value in (("rest", 1 - how.share), ("scale", how.scale), ("power", how.power), ("shift", how.shift)):
            cast(Tensor, getattr(self, name)).fill_(value)
        return self

    def both(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the robust network and of the natural one, each ``(B, K)``, as they are before the mixing."""
        z1, z2 = features.split(self.parts, dim=1)
        return self.first(z1), self.second(z2)

    def mix(self, robust: Tensor, natural: Tensor) -> Tensor:
        """Log-probabilities of the mixture of both networks' logits."""
        return mixed(natural, self.scale * raised(robust, self.power, self.shift), self.rest)

    def forward(self, features: Tensor) -> Tensor:
        """Log-probabilities ``(B, K)``."""
        return self.mix(*self.both(features))
