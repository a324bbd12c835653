"""Weights of images, with mean 1, in the training loss and in the selection on val."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from robust_transfer.errors import DataError

IMBALANCED = 3.0  # times as many images in the largest class as in the smallest: more are said


def balanced(labels: Tensor, classes: int) -> Tensor:
    """``n / (K n_c)`` for each label ``(n,)``, float64: each of the K classes with images has equal total weight.

    scikit-learn's ``class_weight="balanced"`` (King & Zeng 2001).
    """
    counts = labels.bincount(minlength=classes)
    return len(labels) / (int((counts > 0).sum()) * counts[labels].double())


def imbalance(counts: Sequence[int]) -> float:
    """Ratio of images in the largest class to those in the smallest non-empty one; 1 without images."""
    there = [count for count in counts if count]
    return max(there) / min(there) if there else 1.0


def checked(weights: Tensor, n: int) -> Tensor:
    """``weights`` as float64 ``(n,)`` whose mean is 1; :class:`DataError` for others than n finite, non-negative numbers."""
    if weights.shape != (n,):
        raise DataError(f"there are {n} images and weights of the shape {tuple(weights.shape)}: give one each")
    weights = weights.double()
    if not bool(weights.isfinite().all()) or bool((weights < 0).any()):
        raise DataError("weights of images must be finite and not negative")
    if n and not bool((weights > 0).any()):
        raise DataError("every image has the weight 0: there is nothing to learn from")
    return weights / weights.mean() if n else weights


def mean(values: Tensor, weights: Tensor | None) -> float:
    """Weighted mean of ``values (n,)``; weights None: equal."""
    values = values.double()
    return float(values.mean() if weights is None else (values * weights).sum() / weights.sum())
