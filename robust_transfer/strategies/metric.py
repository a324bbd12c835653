"""Metric that weighs directions by a second moment, and powers of it."""

from __future__ import annotations

import torch
from torch import Tensor


def metric(moment: Tensor, floor: float) -> Tensor:
    """``M = (1 - floor) d S / tr S + floor I`` of a second moment ``S (d, d)``: positive definite.

    Its trace is ``d``, as the identity's is: on average over all directions, lengths stay what they are.
    """
    d = len(moment)
    return (1 - floor) * d * moment / moment.trace() + floor * torch.eye(d, dtype=moment.dtype)


def power(matrix: Tensor, exponent: float) -> Tensor:
    """Symmetric positive definite matrix to a power, by its eigenvectors."""
    values, vectors = torch.linalg.eigh(matrix)
    made: Tensor = (vectors * values**exponent) @ vectors.T
    return made
