"""Threat models: the allowed perturbations of an image. The only norm-specific code of the project.

Images live in [0, 1]; a budget is written as a fraction of that range, in the field's habit of n/255 for linf.
"""

from __future__ import annotations

import math
import re
import reprlib
from fractions import Fraction

import torch
from torch import Tensor

from robust_transfer import randomness
from robust_transfer.config import config
from robust_transfer.errors import ThreatError

NORMS = ("linf", "l2")


_DIGITS = r"\d{1,400}(?:\.\d{1,400})?"  # a float's largest has 309


def parse_eps(text: str | float) -> Fraction | float:
    """Non-negative number from ``"8/255"``, ``"0.5"`` or a number. Parsed, never evaluated."""
    if isinstance(text, (int, float)):
        text = repr(text)
    match = re.fullmatch(rf"\s*({_DIGITS}(?:e[-+]?\d{{1,3}})?)\s*(?:/\s*({_DIGITS}))?\s*", text, re.I | re.ASCII)
    if match is None:
        raise ThreatError(
            f"cannot read the eps {reprlib.repr(text)}: write a fraction such as 8/255 or a number such as 0.5"
        )
    top, bottom = Fraction(match[1]), Fraction(match[2]) if match[2] else Fraction(1)
    if bottom == 0:
        raise ThreatError(f"the eps {text!r} divides by zero")
    return top / bottom


@config
class Threat:
    """All perturbations ``d`` with ``|d|_norm <= eps`` that keep the image in [0, 1].

    ``norm`` is ``linf`` or ``l2``; ``eps`` is on the [0, 1] pixel scale (8/255 = 0.0314).
    Batches are ``(B, C, H, W)`` float tensors; sizes are per example, ``(B,)``.
    """

    norm: str
    eps: float

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise ThreatError(f"unknown norm {self.norm!r}: use linf or l2, as in linf:8/255 or l2:0.5")
        if not math.isfinite(self.eps) or self.eps < 0:
            raise ThreatError(f"eps must be a non-negative number, not {self.eps}")
        if self.norm == "linf" and self.eps > 1:
            raise ThreatError(
                f"linf eps {self.eps:g} is more than the whole pixel range [0, 1]: did you mean linf:{self.eps:g}/255?"
            )

    @classmethod
    def parse(cls, text: str | Threat) -> Threat:
        """``"linf:8/255"`` or ``"l2:0.5"``."""
        if isinstance(text, Threat):
            return text
        norm, colon, eps_text = str(text).strip().partition(":")
        if not colon:
            raise ThreatError(
                f"cannot read the threat {reprlib.repr(text)}: write norm:eps, as in linf:8/255 or l2:0.5"
            )
        try:
            eps = float(parse_eps(eps_text))
        except OverflowError:
            raise ThreatError(f"the eps {eps_text!r} is too large for a number") from None
        return cls(norm=norm.strip().lower().replace("l_inf", "linf"), eps=eps)

    def to_json(self) -> str:
        """The text that :meth:`parse` reads: a threat's form in JSON."""
        return str(self)

    def __str__(self) -> str:
        """Shortest of ``linf:0.3``, ``linf:8/255`` and all the digits that :meth:`parse` reads as this threat."""
        forms = (f"{self.eps:g}", f"{round(self.eps * 255, 3):g}/255", repr(self.eps))
        exact = next(form for form in forms if float(parse_eps(form)) == self.eps)
        return f"{self.norm}:{exact}"

    def size(self, delta: Tensor) -> Tensor:
        """Norm of each perturbation, ``(B,)``."""
        flat = delta.flatten(1).float()
        return flat.abs().amax(1) if self.norm == "linf" else _length(flat)

    def project(self, adversarial: Tensor, clean: Tensor) -> Tensor:
        """Nearest point to ``adversarial`` in the ball around ``clean``, then in the box [0, 1].

        Clipping to the box moves every pixel towards ``clean`` (which is in the box), so the ball still holds.
        """
        return (clean + self.shorten(adversarial - clean)).clamp(0, 1)

    def shorten(self, delta: Tensor) -> Tensor:
        """Nearest perturbation to ``delta`` in the ball, whatever the image."""
        if self.norm == "linf":
            return delta.clamp(-self.eps, self.eps)
        norm = self.size(delta).clamp_min(1e-12)
        return delta * _per_example((self.eps / norm).clamp(max=1.0), delta)

    def steepest(self, gradient: Tensor) -> Tensor:
        """Direction of unit norm that raises a linear function most: sign for linf, the unit gradient for l2.

        Depends on the gradient's direction only: an example's gradient is first divided by its largest entry, so that
        tiny gradients are not lost to underflow. An all-zero gradient gives a zero step.
        """
        if self.norm == "linf":
            return gradient.sign()
        top = gradient.flatten(1).abs().amax(1)
        scaled = gradient / _per_example(torch.where(top > 0, top, torch.ones_like(top)), gradient)
        return scaled / _per_example(_length(scaled.flatten(1)).clamp_min(1e-12), gradient)

    def slope(self, gradient: Tensor) -> Tensor:
        """Rise of a linear function along :meth:`steepest`, for a step of norm 1, ``(B,)``: the dual norm of its gradient."""
        return _length(gradient.flatten(1), order=1 if self.norm == "linf" else 2)

    def random_start(
        self, clean: Tensor, ids: Tensor, *, seed: int, purpose: str, restart: int = 0, step: int = 0
    ) -> Tensor:
        """Point drawn uniformly from the ball around each image (and clipped to the box), addressed by example id."""
        shape = tuple(clean.shape[1:])
        address = randomness.Address(seed=seed, purpose=purpose, restart=restart, step=step)
        if self.norm == "linf":
            delta = (randomness.uniform(address, ids, shape) * 2 - 1) * self.eps
        else:
            direction = randomness.normal(address, ids, shape)
            direction = direction / _per_example(_length(direction.flatten(1)).clamp_min(1e-12), direction)
            radius = randomness.uniform(address.child("radius"), ids, (1,)).flatten()
            share = radius.cpu().double() ** (1 / math.prod(shape))  # in float32 its last bit depends on the batch
            delta = direction * _per_example(self.eps * share.to(direction.device, torch.float32), direction)
        return self.project(clean + delta.to(clean.dtype), clean)


def _length(flat: Tensor, order: int = 2) -> Tensor:
    """Lengths of ``(B, D)`` rows in the norm of this ``order``, summed in float64 where the device has it.

    So they have the same bits in any batch.
    """
    exact = torch.float32 if flat.device.type == "mps" else torch.float64
    length: Tensor = torch.linalg.vector_norm(flat, order, dim=1, dtype=exact)
    return length.to(torch.float32)


def _per_example(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *([1] * (like.dim() - 1))).to(like.dtype)
