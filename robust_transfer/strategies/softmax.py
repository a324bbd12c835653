"""Multinomial logistic regression with an L2 penalty, solved to convergence: the convex problem of a linear probe.

Minimised over ``W (K, d)`` and ``b (K,)`` on standardised features ``s``:
``mean_i CE(W s_i + b, y_i) + l2 / 2 * |W|^2``. Biases are not penalised. Solved by Newton's method (:mod:`.newton`).
With a metric ``M`` the penalty is ``tr(W M W^T)``: the same problem in ``W M^(1/2)``, on features ``M^(-1/2) s_i``.
Where images have weights, all is as if each were there so many times: mean, standardisation and all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_transfer.data.weights import checked
from robust_transfer.run import with_threads
from robust_transfer.strategies.log_loss import LogLoss
from robust_transfer.strategies.metric import power
from robust_transfer.strategies.newton import minimise

MAX_NEWTON_STEPS = 100  # Newton steps for one penalty
CONSTANT = 1e-5  # share of its root mean square up to which a feature's deviation is taken for float32 noise
NOISE = 2.0**-8  # share of the median deviation: bfloat16 rounds what a feature is made of by as much
TOLERANCE, ROUGH_TOLERANCE = 1e-11, 1e-8  # Newton decrement, in nats, where gradients are float64, and float32
CONVERGED = 3e-4  # the relative gradient up to which a solution counts as converged


@dataclass(frozen=True)
class Standardisation:
    """Mean and deviation of each feature, float64 ``(d,)``; constant features keep a deviation of 1.

    No deviation counts as less than 1/256 of the median one. Divided by its own, a feature that is nearly dead (above
    0 on one image in a hundred, by rounding) gets a weight some thousand times the others': the head depends on
    rounding, and training all weights from it diverges.
    """

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, features: Tensor, weights: Tensor | None = None) -> Standardisation:
        """Fitted to ``features`` ``(n, d)`` in float64, each counting as often as its weight says (mean 1; None: once).

        What is constant does not depend on the features' scale.
        """
        wide = features.double()
        if weights is not None:
            each = weights[:, None]
            mean, size = (each * wide).mean(0), (each * wide.square()).mean(0).sqrt()
            std = (each * (wide - mean).square()).mean(0).sqrt()
        else:
            mean, std, size = wide.mean(0), wide.std(0, correction=0), wide.square().mean(0).sqrt()
        varies = std > CONSTANT * size
        least = NOISE * float(std[varies].median()) if varies.any() else 0.0
        return cls(mean, torch.where(varies, std.clamp(min=least), torch.ones_like(std)))

    def __call__(self, features: Tensor) -> Tensor:
        """Standardised features in float64."""
        return (features.double() - self.mean) / self.std

    def unfold(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Equivalent classifier on raw features, float32."""
        raw = weight / self.std
        return raw.float(), (bias - raw @ self.mean).float()


@dataclass(frozen=True)
class Solution:
    """One point of the path: the head on raw features, and diagnostics of the solve.

    ``loss`` is the objective, ``gradient`` the norm of its gradient as a share of that at ``W = 0, b = 0``.
    """

    l2: float
    weight: Tensor
    bias: Tensor
    loss: float
    iterations: int
    gradient: float

    @property
    def converged(self) -> bool:
        """True if the gradient has vanished, up to :data:`CONVERGED`."""
        return self.gradient <= CONVERGED

    def logits(self, features: Tensor) -> Tensor:
        """Logits of raw features ``(n, d)``."""
        return F.linear(features, self.weight, self.bias)

    def head(self) -> nn.Linear:
        """Head as a linear layer."""
        layer = nn.Linear(self.weight.shape[1], self.weight.shape[0])
        with torch.no_grad():
            layer.weight.copy_(self.weight)
            layer.bias.copy_(self.bias)
        return layer


def solve_path(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    path: Sequence[float],
    weights: Tensor | None = None,
    metric: Tensor | None = None,
) -> list[Solution]:
    """Solve for every ``l2`` in ``path``, strongest first, each from those before; returned in the order of ``path``.

    ``features`` raw ``(n, d)``, ``labels`` int64 ``(n,)``, ``weights`` ``(n,)``, ``metric`` the symmetric
    positive definite ``M (d, d)`` of the penalty on standardised features, float64. Deterministic. A class without images has
    no optimum (its bias falls for ever): its logit is a constant that gives it at most ``1 / (n + K)`` on every training
    image.
    """
    if weights is not None:
        there = weights > 0
        features, labels, weights = features[there], labels[there], checked(weights[there], int(there.sum()))
    present = torch.bincount(labels, minlength=num_classes).nonzero()[:, 0]
    labels = torch.searchsorted(present, labels)
    standardise = Standardisation.of(features, weights)
    whiten = power(metric, -0.5) if metric is not None else None
    standardised = standardise(features)
    problem = LogLoss(standardised @ whiten if whiten is not None else standardised, labels, len(present), weights)
    weight = problem.zeros()
    scale = max(float(problem.at(weight).gradient.norm()), 1e-12)
    found: dict[float, Solution] = {}
    before: list[tuple[float, Tensor]] = []
    for l2 in sorted(set(path), reverse=True):
        penalty = torch.full_like(weight[0], l2)
        penalty[-1] = 0  # the biases
        tolerance = TOLERANCE if problem.exact else ROUGH_TOLERANCE
        with with_threads(1 if problem.exact else None):  # small products take less time than waking a thread
            point, steps = minimise(problem, _guess(l2, before, weight), penalty, tolerance, MAX_NEWTON_STEPS)
        weight = point.weight
        before = [*before[-1:], (l2, weight)]
        loss = point.loss + float((penalty * weight.square()).sum()) / 2
        gradient = float((point.gradient + penalty * weight).norm()) / scale
        absent = problem.least_sum(weight) - math.log(len(labels) + num_classes)
        all_weight = weight.new_zeros(num_classes, features.shape[1])
        solved = weight[:, :-1] @ problem.axes.T
        all_weight.index_copy_(0, present, solved @ whiten if whiten is not None else solved)
        all_bias = weight.new_full((num_classes,), absent).index_copy(0, present, weight[:, -1])
        found[l2] = Solution(l2, *standardise.unfold(all_weight, all_bias), loss, steps, gradient)
    return [found[l2] for l2 in path]


def _guess(l2: float, before: list[tuple[float, Tensor]], weight: Tensor) -> Tensor:
    """Starting point: the last two solutions, extrapolated along the logarithm of ``l2``."""
    if len(before) < 2:
        return weight
    (first, w0), (second, w1) = before
    share = min(1.0, math.log(second / l2) / math.log(first / second))
    return w1 + share * (w1 - w0)
