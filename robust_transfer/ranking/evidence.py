"""LogME (You et al. 2021): the largest log evidence of labels that a Bayesian linear model gives, from features alone.

For a class, with labels ``y`` in {0, 1}, features ``F (n, d)``, weights of prior precision ``a`` and noise of precision ``b``,
the evidence is that of ``y ~ N(0, I / b + F F' / a)``. The paper's equation 2 is the same by the matrix inversion lemma. LogME
is its maximum over ``a`` and ``b``, per image, averaged over the classes.

The paper climbs by a fixed point. Here ``b`` has a closed form for each ratio ``t = a / b``, so that one number is left, which
is searched for on a grid that closes in: it also finds maxima at the ends, where a fixed point runs off.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

RATIOS = (1e-10, 1e10)  # of t, as a multiple of the largest eigenvalue of F F'
FIRST, THEN, ROUNDS = 201, 21, 6  # points of the grids, and how often one closes in


def logme(features: Tensor, labels: Tensor, num_classes: int) -> float:
    """LogME of ``features (n, d)`` for ``labels (n,)``, over those of ``num_classes`` that have images; higher is better."""
    wide = features.double()
    left, values, _ = torch.linalg.svd(wide, full_matrices=False)
    present = torch.bincount(labels, minlength=num_classes).nonzero()[:, 0]
    targets = (labels[:, None] == present).double()
    along = (left.T @ targets).square()  # (r, K): what of a class's labels each direction explains
    beside = (targets.square().sum(0) - along.sum(0)).clamp_min(0)
    return float(_largest(values.square(), along, beside, len(labels)).mean()) / len(labels)


def _largest(eigenvalues: Tensor, along: Tensor, beside: Tensor, n: int) -> Tensor:
    """Largest log evidence of each class, ``(K,)``."""
    top = max(float(eigenvalues.max()), 1e-300)
    low, high = (math.log(top * ratio) for ratio in RATIOS)
    grid = torch.linspace(low, high, FIRST, dtype=torch.float64)[:, None].expand(-1, along.shape[1])
    for _ in range(ROUNDS):
        best = _evidence(grid, eigenvalues, along, beside, n).argmax(0)
        step = (grid[1] - grid[0]).abs()
        middle = grid.gather(0, best[None])[0]
        grid = middle + step * torch.linspace(-1, 1, THEN, dtype=torch.float64)[:, None]
    return _evidence(grid, eigenvalues, along, beside, n).amax(0)


def _evidence(log_ratio: Tensor, eigenvalues: Tensor, along: Tensor, beside: Tensor, n: int) -> Tensor:
    """Log evidence at ``t = exp(log_ratio)``, ``(g, K)``, with the best ``b`` for it."""
    ratio = log_ratio.exp()[:, None]  # (g, 1, K)
    scatter = (along * ratio / (ratio + eigenvalues[:, None])).sum(1) + beside
    volume = torch.log1p(eigenvalues[:, None] / ratio).sum(1)
    # labels that are fitted without any rest would have an infinite evidence
    return -0.5 * (n * (math.log(2 * math.pi) + 1 + (scatter.clamp_min(1e-12) / n).log()) + volume)
