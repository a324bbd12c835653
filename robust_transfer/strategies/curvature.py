"""Approximate inverses of the Hessian of a linear classifier's penalised log loss: what makes conjugate gradients fast.

The Hessian is ``mean_i (diag(p_i) - p_i p_i^T) x (x_i x_i^T) + penalty``. Both take a residual ``(K, r + 1)`` and return a
direction of that shape.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robust_transfer.strategies.log_loss import LogLoss

Inverse = Callable[[Tensor], Tensor]

LARGEST = 3e7  # numbers that the inverses of all classes may hold
JITTER = 1e-6  # share of its mean diagonal that is added to a class's block: rounding must not make it indefinite


def fits(problem: LogLoss) -> bool:
    """True if :func:`by_class` takes little memory."""
    return problem.classes * problem.x.shape[1] ** 2 <= LARGEST


def factored(problem: LogLoss, p: Tensor, penalty: Tensor) -> Inverse:
    """Axes of the features' and of the classes' covariance, each pair scaled by the curvature along it.

    Eigenvalue-corrected Kronecker factors (George et al. 2018): nearly free, and good where no image is far from sure.
    """
    n = p.shape[1]
    _, axes = torch.linalg.eigh((torch.diag(p.sum(1)) - p @ p.T).double() / n)
    axes = axes.to(p.dtype)
    scale = penalty.to(p.dtype).repeat(len(p), 1)
    for x, _, block in problem.blocks(p):
        variance = (axes.T.square() @ block - (axes.T @ block).square_()).clamp_min_(0)
        scale.addmm_(variance, x.square(), alpha=1 / n)
    scale[:, -1].clamp_(min=1e-4 * float(scale[:, -1].amax()) + 1e-30)  # a constant added to all biases changes nothing
    return lambda residual: axes @ ((axes.T @ residual) / scale)


def by_class(problem: LogLoss, p: Tensor, penalty: Tensor) -> Inverse:
    """Exact inverse of every class's own block, ``mean_i p_ik (1 - p_ik) x_i x_i^T + penalty``.

    As dear as some hundred products with the Hessian, and needs several times fewer of them where images that are nearly
    the same bear different labels.
    """
    blocks = torch.diag(penalty.to(p.dtype)).repeat(len(p), 1, 1)
    for x, _, part in problem.blocks(p):
        for block, weights in zip(blocks, part * (1 - part), strict=True):
            block.addmm_((x * weights[:, None]).T, x, alpha=1 / p.shape[1])
    diagonal = blocks.diagonal(dim1=1, dim2=2)
    diagonal += JITTER * diagonal.mean(1, keepdim=True)
    inverses = torch.cholesky_inverse(torch.linalg.cholesky(blocks))
    return lambda residual: torch.bmm(inverses, residual[:, :, None])[:, :, 0]
