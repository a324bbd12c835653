"""Mean log loss of a linear classifier: its value, its gradient, and products with its Hessian, block by block.

Weights are ``(K, r + 1)`` and hold the biases in their last column; the features ``(n, r + 1)`` end in a one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

EXACT = 2e7  # multiplications of one product X W up to which all is float64
BLOCK = 200_000  # logits computed at a time: they stay in a core's cache
TINY = -60.0  # log probabilities are cut off here: denormal numbers make products many times slower


@dataclass(frozen=True)
class Point:
    """Weights, the mean log loss there, its gradient ``(K, r + 1)``, and the probabilities ``(K, n)``.

    Weights, loss and gradient are float64, probabilities in the features' own precision.
    """

    weight: Tensor
    loss: float
    gradient: Tensor
    p: Tensor


class LogLoss:
    """Mean log loss over standardised features, in the axes of their covariance: a penalty does not see a rotation.

    There are at most ``min(n, d)`` axes: no optimum has a part in the others. Products with the features are float32 where
    they are large, and summed in float64. ``labels`` int64 in ``[0, classes)``.
    """

    def __init__(self, standardised: Tensor, labels: Tensor, classes: int) -> None:
        variances, axes = torch.linalg.eigh(standardised.T @ standardised / len(standardised))
        self.axes = axes[:, variances > 1e-12 * variances.amax()]
        x = F.pad(standardised @ self.axes, (0, 1), value=1.0)
        one_hot = F.one_hot(labels, classes).double() / len(labels)
        self.sums = one_hot.T @ x
        self.x = x if x.numel() * classes <= EXACT else x.float()
        self.labels, self.classes = labels, classes

    @property
    def exact(self) -> bool:
        """True if all products are float64."""
        return self.x.dtype is torch.float64

    def zeros(self) -> Tensor:
        """Weights that a path begins with."""
        return torch.zeros_like(self.sums)

    def at(self, weight: Tensor) -> Point:
        """Loss, gradient and probabilities at ``weight``."""
        total, gradient, kept = 0.0, -self.sums, self.x.new_empty(self.classes, len(self.x))
        w = weight.to(self.x.dtype)
        for x, labels, p in self.blocks(kept):
            log_p = (w @ x.T).log_softmax(0)
            total -= float(log_p[labels, torch.arange(len(labels))].double().sum())
            torch.exp(log_p.clamp_min_(TINY), out=p)
            gradient = gradient + (p @ x).double() / len(self.x)
        return Point(weight, total / len(self.x), gradient, kept)

    def product(self, p: Tensor, direction: Tensor) -> Tensor:
        """Hessian where the probabilities are ``p``, times ``direction``; in the features' precision."""
        found = torch.zeros_like(direction)
        for x, _, block in self.blocks(p):
            slopes = (direction @ x.T).mul_(block)
            slopes -= block * slopes.sum(0)
            found.addmm_(slopes, x, alpha=1 / len(self.x))
        return found

    def least_sum(self, weight: Tensor) -> float:
        """Least log-sum-exp of any image's logits."""
        w = weight.to(self.x.dtype)
        return min(float((w @ x.T).logsumexp(0).amin()) for x, _, _ in self.blocks(self.x.T))

    def blocks(self, by_image: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Features ``(b, r + 1)``, labels ``(b,)``, and columns of ``by_image``; class by class because that is faster."""
        count = math.ceil(len(self.x) * self.classes / BLOCK)
        parts = (torch.chunk(t, count, dim) for t, dim in ((self.x, 0), (self.labels, 0), (by_image, 1)))
        return zip(*parts, strict=True)
