"""Approximate inverses of the Hessian of a linear classifier's penalised log loss: preconditioners of conjugate gradients.

The Hessian is ``mean_i (diag(p_i) - p_i p_i^T) x (x_i x_i^T) + penalty``, ``x_i`` the problem's ``rows``. Both take a
residual ``(K, r + 1)`` and return a direction of that shape; all are float32.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robust_transfer.strategies.log_loss import LogLoss

Inverse = Callable[[Tensor], Tensor]

MAX_NUMBERS = 3e7  # numbers that the inverses of all classes may hold
JITTER = 1e-7  # share of its trace that is added to a class's block: rounding must not make it indefinite


def worthwhile(problem: LogLoss) -> int:
    """Number of Hessian products that cost as much as :func:`by_class`; infinite where that needs much memory."""
    size = problem.x.shape[1]
    return max(40, size // 2) if problem.classes * size**2 <= MAX_NUMBERS else 10**3


def factored(problem: LogLoss, p: Tensor, penalty: Tensor) -> Inverse:
    """Kronecker factors: principal axes of features and classes, each pair scaled by the curvature along it.

    Eigenvalue-corrected (George et al. 2018): nearly free.
    """
    n = p.shape[1]
    counted = p * problem.root if problem.weighted else p
    each = counted @ problem.root if problem.weighted else p.sum(1)
    _, axes = torch.linalg.eigh((torch.diag(each) - counted @ counted.T).double() / n)
    axes = axes.to(p.dtype)
    scale = penalty.repeat(len(p), 1)
    for x, part in problem.parts(problem.rows, p.T):
        variance = (axes.T.square() @ part.T - (axes.T @ part.T).square_()).clamp_min_(0)
        scale.addmm_(variance, x.square(), alpha=1 / n)
    scale[:, -1].clamp_(min=1e-4 * float(scale[:, -1].amax()) + 1e-30)  # a constant added to all biases changes nothing
    return lambda residual: axes @ ((axes.T @ residual) / scale)


def by_class(problem: LogLoss, p: Tensor, penalty: Tensor) -> Inverse:
    """Inverse of every class's own block, ``mean_i p_ik (1 - p_ik) x_i x_i^T + penalty``.

    Costs some hundred Hessian products; the solver then needs several times fewer of them where nearly equal images
    have different labels.
    """
    blocks = torch.diag(penalty).repeat(len(p), 1, 1)
    for x, part in problem.parts(problem.rows, p.T):
        for block, weights in zip(blocks, (part * (1 - part)).T, strict=True):
            block.addmm_((x * weights[:, None]).T, x, alpha=1 / p.shape[1])
    diagonal = blocks.diagonal(dim1=1, dim2=2)
    diagonal += JITTER * diagonal.sum(1, keepdim=True)
    factors, failed = torch.linalg.cholesky_ex(blocks)
    if bool(failed.any()):
        return factored(problem, p, penalty)
    inverses = torch.cholesky_inverse(factors)
    return lambda residual: torch.bmm(residual[:, None], inverses)[:, 0]  # much faster than inverses @ residual
