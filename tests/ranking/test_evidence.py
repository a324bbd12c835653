"""LogME: against the dense Gaussian likelihood, written without it, and where the maximum is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from robust_transfer.ranking.evidence import logme


def drawn(n: int, d: int, noise: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n, d, generator=generator)
    scores = features @ torch.randn(d, 3, generator=generator) + noise * torch.randn(n, 3, generator=generator)
    return features, scores.argmax(1)


def dense(features: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """Largest log density of ``N(0, I / b + F F' / a)`` at the target, by a general optimiser over ``a`` and ``b``."""

    def lost(at: NDArray[np.float64]) -> float:
        a, b = np.exp(np.clip(at, -30, 30))  # it runs off where the features say nothing of a class
        covariance = np.eye(len(target)) / b + features @ features.T / a
        return -float(multivariate_normal(cov=covariance).logpdf(target))

    starts = [(u, v) for u in (-2.0, 2.0, 5.0) for v in (0.0, 3.0)]
    options = {"xatol": 1e-9, "fatol": 1e-10, "maxiter": 4000}
    return max(-float(minimize(lost, start, method="Nelder-Mead", options=options).fun) for start in starts)


@pytest.mark.parametrize(("n", "d", "noise"), [(60, 4, 0.1), (60, 20, 1.0), (30, 12, 3.0)])
def test_it_is_the_largest_evidence(n: int, d: int, noise: float) -> None:
    features, labels = drawn(n, d, noise)
    targets = np.eye(3)[labels.numpy()]
    wanted = np.mean([dense(features.double().numpy(), targets[:, k]) for k in range(3)]) / n
    assert logme(features, labels, 3) == pytest.approx(wanted, abs=1e-7)


def test_features_that_say_nothing_leave_the_evidence_of_noise_alone() -> None:
    labels = torch.tensor([0, 1]).repeat(20)
    found = logme(torch.zeros(40, 5), labels, 2)
    # b = n / |y|^2 = 2: the noise has the labels' mean square
    assert found == pytest.approx(-0.5 * (math.log(2 * math.pi) + 1 + math.log(0.5)))


def test_more_telling_features_have_more_and_their_scale_is_nothing() -> None:
    found = [logme(*drawn(200, 8, noise), 3) for noise in (0.1, 2.0, 20.0)]
    assert found == sorted(found, reverse=True)
    assert found[0] - found[2] > 0.1
    features, labels = drawn(200, 8, 0.1)
    assert logme(1000 * features, labels, 3) == pytest.approx(logme(features, labels, 3), abs=1e-9)


def test_classes_without_images_do_not_count() -> None:
    features, labels = drawn(80, 5, 0.5)
    assert logme(features, labels, 7) == logme(features, labels, 3)
