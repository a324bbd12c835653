"""Multinomial logistic regression with an L2 penalty, solved to convergence: the convex problem of a linear probe.

Minimised over ``W (K, d)`` and ``b (K,)`` on standardised features ``s``:
``mean_i CE(W s_i + b, y_i) + l2 / 2 * |W|^2``. The solver is L-BFGS (scipy), run in coordinates in which the Hessian is
close to the identity: the axes of the features' and of the classes' covariance, every pair of them scaled by the
curvature where the solve begins (eigenvalue-corrected Kronecker factors, George et al. 2018). The optimum is the same;
the number of iterations falls several-fold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

EXACT = 2e7  # multiplications of one product X W up to which all is float64
BLOCK = 200_000  # logits computed at a time: they stay in a core's cache
TINY = -60.0  # log probabilities are cut off here: denormal numbers make products many times slower
ITERATIONS = 2000  # of L-BFGS for one penalty
CONSTANT = 1e-5  # share of its root mean square up to which a feature's deviation is taken for float32 noise
CONVERGED = 3e-4  # the relative gradient up to which a solution counts as converged


@dataclass(frozen=True)
class Standardisation:
    """Mean and deviation of each feature, float64 ``(d,)``; constant features keep a deviation of 1."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Standardisation:
        """Fitted to ``features`` ``(n, d)`` in float64. What is constant does not depend on the features' scale."""
        wide = features.double()
        std, size = wide.std(0, correction=0), wide.square().mean(0).sqrt()
        return cls(wide.mean(0), torch.where(std > CONSTANT * size, std, torch.ones_like(std)))

    def __call__(self, features: Tensor) -> Tensor:
        """Standardised features in float64."""
        return (features.double() - self.mean) / self.std

    def unfold(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Same classifier on raw features, float32."""
        raw = weight / self.std
        return raw.float(), (bias - raw @ self.mean).float()


@dataclass(frozen=True)
class Solution:
    """One point of the path: the head on raw features, and how the solve went.

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
        """As a linear layer."""
        layer = nn.Linear(self.weight.shape[1], self.weight.shape[0])
        with torch.no_grad():
            layer.weight.copy_(self.weight)
            layer.bias.copy_(self.bias)
        return layer


def solve_path(features: Tensor, labels: Tensor, num_classes: int, path: Sequence[float]) -> list[Solution]:
    """Solve for every ``l2`` in ``path``, strongest first, each from those before; returned in the order of ``path``.

    ``features`` raw ``(n, d)``, ``labels`` int64 ``(n,)``. Deterministic. A class without images has no optimum (its
    bias falls for ever): its logit is a constant that gives it at most ``1 / (n + K)`` on every training image.
    """
    present = torch.bincount(labels, minlength=num_classes).nonzero()[:, 0]
    labels = torch.searchsorted(present, labels)
    standardise = Standardisation.of(features)
    problem = _Problem(standardise(features), labels, len(present))
    weight, bias = problem.zeros()
    scale = max(problem.gradient_size(weight, bias, 0.0), 1e-12)
    found: dict[float, Solution] = {}
    before: list[tuple[float, Tensor, Tensor]] = []
    for l2 in sorted(set(path), reverse=True):
        weight, bias, loss, iterations = _solve(problem, l2, *_guess(l2, before, weight, bias))
        before = [*before[-1:], (l2, weight, bias)]
        gradient = problem.gradient_size(weight, bias, l2) / scale
        absent = problem.least_sum(weight, bias) - math.log(len(labels) + num_classes)
        all_weight = weight.new_zeros(num_classes, features.shape[1]).index_copy(0, present, weight @ problem.axes.T)
        all_bias = weight.new_full((num_classes,), absent).index_copy(0, present, bias)
        found[l2] = Solution(l2, *standardise.unfold(all_weight, all_bias), loss, iterations, gradient)
    return [found[l2] for l2 in path]


class _Problem:
    """Log loss over features ``(n, r)`` in the axes of their covariance: the penalty does not see a rotation.

    Weights ``(K, r)`` and biases ``(K,)`` come and go in float64; products with the features are float32 where they are
    large, and summed in float64.
    """

    def __init__(self, standardised: Tensor, labels: Tensor, classes: int) -> None:
        variances, axes = torch.linalg.eigh(standardised.T @ standardised / len(standardised))
        self.axes = axes[:, variances > 1e-12 * variances.amax()]  # the optimum has no part in the others
        rotated = standardised @ self.axes
        one_hot = F.one_hot(labels, classes).double() / len(labels)
        self.sums, self.priors = one_hot.T @ rotated, one_hot.sum(0)
        self.x = rotated if rotated.numel() * classes <= EXACT else rotated.float()
        self.labels, self.classes = labels, classes

    def zeros(self) -> tuple[Tensor, Tensor]:
        """Weights and biases that a path begins with."""
        return self.sums.new_zeros(self.sums.shape), self.sums.new_zeros(self.classes)

    def loss(self, weight: Tensor, bias: Tensor) -> tuple[float, Tensor, Tensor]:
        """Mean log loss and its gradients."""
        total, grad_weight, grad_bias = 0.0, -self.sums, -self.priors
        for x, labels, log_p in self._blocks(weight, bias):
            total -= float(log_p[labels, torch.arange(len(labels))].double().sum())
            p = log_p.clamp_min_(TINY).exp_()
            grad_weight = grad_weight + (p @ x).double() / len(self.x)
            grad_bias = grad_bias + p.sum(1).double() / len(self.x)
        return total / len(self.x), grad_weight, grad_bias

    def gradient_size(self, weight: Tensor, bias: Tensor, l2: float) -> float:
        """Norm of the objective's gradient."""
        _, grad_weight, grad_bias = self.loss(weight, bias)
        return float(torch.cat([(grad_weight + l2 * weight).flatten(), grad_bias]).norm())

    def least_sum(self, weight: Tensor, bias: Tensor) -> float:
        """Least log-sum-exp of any image's logits."""
        return min(
            float((bias[labels] + (weight[labels] * x).sum(1) - log_p[labels, torch.arange(len(labels))]).amin())
            for x, labels, log_p in self._blocks(weight, bias)
        )

    def curvature(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Axes of the classes ``(K, K)``; the second derivatives along each pair of axes ``(K, r)``, and of ``b``."""
        n = len(self.x)
        covariance = self.sums.new_zeros(self.classes, self.classes)
        for _, _, log_p in self._blocks(weight, bias):
            p = log_p.clamp_min_(TINY).exp_()
            covariance += (torch.diag(p.sum(1)) - p @ p.T).double() / n
        _, axes = torch.linalg.eigh((covariance + covariance.T) / 2)
        turn = axes.T.to(self.x.dtype)
        pairs, single = torch.zeros_like(self.sums), torch.zeros_like(self.priors)
        for x, _, log_p in self._blocks(weight, bias):
            p = log_p.clamp_min_(TINY).exp_()
            variance = (turn.square() @ p - (turn @ p).square_()).clamp_min_(0)
            pairs += (variance @ x.square()).double() / n
            single += variance.sum(1).double() / n
        return axes, pairs, single

    def _blocks(self, weight: Tensor, bias: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Features ``(b, r)``, labels, and log probabilities ``(K, b)``, class by class because that is faster."""
        w, b = weight.to(self.x.dtype), bias.to(self.x.dtype)[:, None]
        count = math.ceil(len(self.x) * self.classes / BLOCK)
        for x, labels in zip(torch.chunk(self.x, count), torch.chunk(self.labels, count), strict=True):
            yield x, labels, torch.addmm(b, w, x.T).log_softmax(0)


def _guess(
    l2: float, before: list[tuple[float, Tensor, Tensor]], weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Starting point: the last two solutions, extrapolated along the logarithm of ``l2``."""
    if len(before) < 2:
        return weight, bias
    (first, w0, b0), (second, w1, b1) = before
    share = min(1.0, math.log(second / l2) / math.log(first / second))
    return w1 + share * (w1 - w0), b1 + share * (b1 - b0)


def _solve(problem: _Problem, l2: float, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, float, int]:
    axes, pairs, single = problem.curvature(weight, bias)
    scale, bias_scale = (pairs + l2).rsqrt(), single.clamp_min(1e-4 * float(single.amax()) + 1e-30).rsqrt()

    def unpack(flat: np.ndarray) -> tuple[Tensor, Tensor]:
        u = torch.from_numpy(flat).view(problem.classes, -1)
        return axes @ (u[:, :-1] * scale), axes @ (u[:, -1] * bias_scale)

    def pack(w: Tensor, b: Tensor, by: Callable[[Tensor, Tensor], Tensor]) -> np.ndarray:
        return torch.cat([by(axes.T @ w, scale), by(axes.T @ b, bias_scale)[:, None]], dim=1).flatten().numpy()

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w, b = unpack(flat)
        loss, grad_w, grad_b = problem.loss(w, b)
        return loss + l2 / 2 * float(w.square().sum()), pack(grad_w + l2 * w, grad_b, torch.mul)

    exact = problem.x.dtype is torch.float64
    options = {
        "maxiter": ITERATIONS,
        "maxfun": 2 * ITERATIONS,
        "maxcor": 40,
        "maxls": 8,  # float32 noise can make a line search fail for ever
        "ftol": 1e-14 if exact else 1e-12,
        "gtol": 1e-7 if exact else 4e-5,
    }
    # L-BFGS itself works on short vectors: SciPy's own BLAS would wake a second thread thousands of times, for nothing
    with threadpool_limits(1, user_api="blas"):
        result = minimize(objective, pack(weight, bias, torch.div), jac=True, method="L-BFGS-B", options=options)
    return *unpack(result.x), float(result.fun), int(result.nit)
