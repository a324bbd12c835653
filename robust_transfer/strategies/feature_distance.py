"""Distance of features from the source's, example by example: what learning without forgetting holds small."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Distance = Literal["l1", "l2", "squared-l2"]
ROUNDING = 1e-6  # how far, relative to the features, two computations of them in float32 may lie apart


def feature_distance(z: Tensor, z0: Tensor, distance: Distance, root: Tensor | None = None) -> Tensor:
    """``d(z, z0)`` per example, ``(B,)``, of features ``(B, d)``: raw sums over features, as in the paper's code.

    With ``root``, the symmetric root ``(d, d)`` of a matrix ``M``, the l2 distances weigh directions: ``|z - z0|^2``
    becomes ``(z - z0)^T M (z - z0)``.

    Training starts at ``z = z0``, where the norms have no gradient (l2: 0/0): there it is 0, the subgradient of least
    norm. It is also 0 where the two differ by no more than float32 rounding, which depends on the batch: its
    direction is arbitrary, but would have full weight.
    """
    z, z0 = z.float(), z0.float()
    difference = z - z0
    if distance == "l1":
        assert root is None  # it is a sum over axes, and no other directions
        least = ROUNDING * z0.norm(dim=1)
        size = difference.abs()
        return torch.where(size > least[:, None] * z0.shape[1] ** -0.5, size, torch.zeros_like(size)).sum(1)
    moved = difference if root is None else _product(difference, root)
    squared = moved.square().sum(1)
    if distance == "squared-l2":
        return squared
    away = difference.square().sum(1) > (ROUNDING * z0.norm(dim=1)).square()
    return torch.where(away, torch.where(away, squared, torch.ones_like(squared)).sqrt(), torch.zeros_like(squared))


def _product(difference: Tensor, root: Tensor) -> Tensor:
    with torch.autocast(difference.device.type, enabled=False):
        return difference @ root
