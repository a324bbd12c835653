"""Mean log loss of a linear classifier: its value, its gradient, and products with its Hessian, block by block.

Weights are ``(K, r + 1)`` and hold the biases in their last column; the features ``(n, r + 1)`` end in a one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

EXACT = 5e7  # multiplications of one product X W up to which all is float64
BLOCK = 2**20  # numbers of the features, or of the logits, that are worked on at a time: they stay in a cache
TINY = -60.0  # log probabilities are cut off here: denormal numbers make products many times slower


@dataclass(frozen=True)
class Point:
    """Weights, the mean log loss there, its gradient ``(K, r + 1)``, and the probabilities ``(K, n)``.

    Weights, loss and gradient are float64, probabilities float32.
    """

    weight: Tensor
    loss: float
    gradient: Tensor
    p: Tensor


class LogLoss:
    """Mean log loss over standardised features, in the axes of their covariance: penalties are invariant to rotations.

    There are at most ``min(n, d)`` axes: no optimum has a component outside them. Loss and gradient are float64 where
    that is cheap, and otherwise float32, summed in float64; Hessian products are float32, which suffices for a search
    direction. ``labels`` int64 in ``[0, classes)``. ``weights`` ``(n,)``, of mean 1: how much each row counts (None:
    equally). The Hessian uses ``rows``, the features times the square roots of the weights; :mod:`.curvature` takes
    these, with ``root`` where rows do not occur.
    """

    def __init__(self, standardised: Tensor, labels: Tensor, classes: int, weights: Tensor | None = None) -> None:
        self.axes = _axes(standardised)
        x = F.pad(standardised @ self.axes, (0, 1), value=1.0)
        one_hot = F.one_hot(labels, classes).double() / len(labels)
        self.weights = weights.to(x.dtype) if weights is not None else torch.ones(len(x), dtype=x.dtype)
        self.weighted = weights is not None
        one_hot = one_hot * self.weights[:, None] if self.weighted else one_hot
        self.sums = one_hot.T @ x
        narrow = x.float()
        self.x = x if x.numel() * classes <= EXACT else narrow
        self.root = self.weights.sqrt().float()
        self.rows = narrow * self.root[:, None] if self.weighted else narrow
        self.weights = self.weights.to(self.x.dtype)
        self.labels, self.classes = labels, classes

    @property
    def exact(self) -> bool:
        """True if all products are float64."""
        return self.x.dtype is torch.float64

    def zeros(self) -> Tensor:
        """Initial weights of a path."""
        return torch.zeros_like(self.sums)

    def at(self, weight: Tensor) -> Point:
        """Loss, gradient and probabilities at ``weight``."""
        total, gradient, n = 0.0, -self.sums, len(self.x)
        kept = self.rows.new_empty(self.classes, n)
        w = weight.to(self.x.dtype)
        for x, labels, weights, kept_part in self.parts(self.x, self.labels, self.weights, kept.T):
            log_p = (w @ x.T).log_softmax(0)
            chosen = log_p[labels, torch.arange(len(labels))]
            total -= float((chosen * weights if self.weighted else chosen).double().sum())
            p = log_p.clamp_min_(TINY).exp_()
            kept_part.copy_(p.T)
            gradient = gradient + ((p.mul_(weights) if self.weighted else p) @ x).double() / n
        return Point(weight, total / n, gradient, kept)

    def product(self, p: Tensor, direction: Tensor) -> Tensor:
        """Hessian at the probabilities ``p``, times ``direction``; both float32."""
        found = torch.zeros_like(direction)
        for x, part in self.parts(self.rows, p.T):
            slopes = (direction @ x.T).mul_(part.T)
            slopes -= part.T * slopes.sum(0)
            found.addmm_(slopes, x, alpha=1 / len(self.x))
        return found

    def least_sum(self, weight: Tensor) -> float:
        """Least log-sum-exp of any image's logits."""
        w = weight.to(self.x.dtype)
        return min(float((w @ x.T).logsumexp(0).amin()) for (x,) in self.parts(self.x))

    def parts(self, *by_image: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Tensors in chunks of rows. (Logits are ``(K, b)``, class by class, because that is faster.)"""
        rows = max(1, BLOCK // max(self.x.shape[1], self.classes))
        return zip(*(tensor.split(rows) for tensor in by_image), strict=True)


def _axes(x: Tensor) -> Tensor:
    """Orthonormal axes ``(d, r)`` of the covariance of ``x (n, d)``, without those of zero variance."""
    span = torch.linalg.qr(x.T)[0] if len(x) < x.shape[1] else None
    x = x if span is None else x @ span
    variances, axes = torch.linalg.eigh(x.T @ x / len(x))
    kept: Tensor = axes[:, variances > 1e-12 * variances.amax()]
    return kept if span is None else span @ kept
