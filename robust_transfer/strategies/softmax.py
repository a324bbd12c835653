"""Multinomial logistic regression with an L2 penalty, solved to convergence: the convex problem of a linear probe.

Minimised over ``W (K, d)`` and ``b (K,)`` on standardised features ``s``:
``mean_i CE(W s_i + b, y_i) + l2 / 2 * |W|^2``. The solver is L-BFGS (scipy), run in coordinates in which the Hessian is
close to the identity: ``u = W (c S + l2)^(1/2)`` with ``S`` the features' covariance. The optimum is the same; the number
of iterations falls several-fold, the more so the weaker the penalty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import Tensor, nn

LARGE = 5e8  # multiplications of one product X W above which float32 is used: 50,000 x 256 x 100 is 1.3e9
ITERATIONS = 500


@dataclass(frozen=True)
class Standardisation:
    """Mean and deviation of each feature, ``(d,)``; constant features keep a deviation of 1."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Standardisation:
        """Fitted to ``features`` ``(n, d)`` in float64."""
        wide = features.double()
        std = wide.std(0, correction=0)
        return cls(wide.mean(0), torch.where(std > 1e-8, std, torch.ones_like(std)))

    def __call__(self, features: Tensor) -> Tensor:
        """Standardised features in float64."""
        return (features.double() - self.mean) / self.std

    def unfold(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The same classifier on raw features, float32."""
        raw = weight / self.std
        return raw.float(), (bias - raw @ self.mean).float()


@dataclass(frozen=True)
class Solution:
    """One point of the path: the head on raw features, and how the solve went (``gradient``: largest entry at the end)."""

    l2: float
    weight: Tensor
    bias: Tensor
    loss: float
    iterations: int
    gradient: float

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
    """Solve for every ``l2`` in ``path``, strongest first, each from the last solution; returned in the order of ``path``.

    ``features`` raw ``(n, d)``, ``labels`` int64 ``(n,)``. Deterministic.
    """
    standardise = Standardisation.of(features)
    dtype = torch.float32 if features.numel() * num_classes > LARGE else torch.float64
    x = standardise(features).to(dtype)
    variances, axes = torch.linalg.eigh((x.double().T @ x.double()) / len(x))
    axes = axes.to(dtype)
    rotated = x @ axes  # the penalty does not see a rotation
    weight = torch.zeros(num_classes, features.shape[1], dtype=torch.float64)
    bias = torch.zeros(num_classes, dtype=torch.float64)
    found = {}
    for l2 in sorted(set(path), reverse=True):
        scale = (variances.clamp_min(0) * _curvature(num_classes) + l2 + 1e-12).rsqrt()
        weight, bias, loss, iterations, gradient = _solve(rotated, labels, l2, scale, weight, bias)
        raw_weight, raw_bias = standardise.unfold(weight @ axes.double().T, bias)
        found[l2] = Solution(l2, raw_weight, raw_bias, loss, iterations, gradient)
    return [found[l2] for l2 in path]


def _curvature(num_classes: int) -> float:
    """The softmax's curvature ``p (1 - p)`` at a uniform guess: the Hessian's scale where the solve begins."""
    return (1 / num_classes) * (1 - 1 / num_classes)


def _solve(
    x: Tensor, labels: Tensor, l2: float, scale: Tensor, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, float, int, float]:
    classes, features = weight.shape
    step = scale.to(x.dtype)
    bias_scale = _curvature(classes) ** -0.5
    one_hot = F.one_hot(labels, classes).to(x.dtype)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        u = torch.from_numpy(flat).view(classes, features + 1)
        w, b = u[:, :-1].to(x.dtype) * step, u[:, -1].to(x.dtype) * bias_scale
        log_p = F.log_softmax(torch.addmm(b, x, w.T), dim=1)
        loss = -log_p.gather(1, labels[:, None]).double().mean() + l2 / 2 * w.double().square().sum()
        error = (log_p.exp() - one_hot) / len(x)
        grad_w = (error.T @ x + l2 * w) * step
        grad = torch.cat([grad_w, (error.sum(0) * bias_scale)[:, None]], dim=1)
        return float(loss), grad.double().flatten().numpy()

    start = torch.cat([weight / scale, (bias / bias_scale)[:, None]], dim=1)
    exact = x.dtype is torch.float64
    options = {"maxiter": ITERATIONS, "maxcor": 20, "ftol": 1e-12 if exact else 1e-8, "gtol": 1e-7 if exact else 1e-5}
    result = minimize(objective, start.flatten().numpy(), jac=True, method="L-BFGS-B", options=options)
    u = torch.from_numpy(result.x).view(classes, features + 1)
    return u[:, :-1] * scale, u[:, -1] * bias_scale, float(result.fun), int(result.nit), float(np.abs(result.jac).max())
