"""The probe reaches the optimum, as NumPy finds in float64 from the head alone: an upper bound on how much is missing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logsumexp
from torch import Tensor

from robust_transfer.strategies import log_loss, newton
from robust_transfer.strategies.linear_probe import PATH
from robust_transfer.strategies.softmax import Solution, Standardisation, solve_path

Labelled = tuple[Tensor, Tensor]


def correlated(n: int, d: int, classes: int, noise: float, seed: int = 0) -> Labelled:
    """Features with a spectrum that falls a hundredfold, and labels that they tell up to ``noise``."""
    generator = torch.Generator().manual_seed(seed)
    turned, _ = torch.linalg.qr(torch.randn(d, d, generator=generator))
    features = torch.randn(n, d, generator=generator) * torch.logspace(0, -2, d) @ turned
    standard = (features - features.mean(0)) / features.std(0)
    scores = standard @ torch.randn(d, classes, generator=generator)
    return features, (scores + noise * d**0.5 * torch.randn(n, classes, generator=generator)).argmax(1)


def near_copies(n: int, d: int, classes: int, seed: int = 0) -> Labelled:
    """Every image four times, all but the same, with labels by chance: separable, with weights that have to be large."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n // 4, d, generator=generator).relu().repeat(4, 1)
    labels = torch.randint(0, classes, (n,), generator=generator)
    return features + 1e-2 * torch.randn(n, d, generator=generator), labels


def copies() -> Labelled:
    features, labels = correlated(60, 20, 4, 0.5)
    return features.repeat(3, 1), torch.cat([labels, labels, labels.roll(1)])


def constants() -> Labelled:
    features, labels = correlated(200, 20, 4, 0.5)
    return torch.cat([features, torch.zeros(200, 2), torch.full((200, 2), 7.3), features[:, :3]], 1), labels


def scales() -> Labelled:
    features, labels = correlated(300, 30, 4, 0.5)
    return features * torch.logspace(-6, 6, 30), labels


def rare() -> Labelled:
    """One class has two images of 500, another none."""
    features, labels = correlated(500, 30, 3, 0.5)
    labels[labels == 2] = 0
    labels[[7, 300]] = 2
    return features, torch.where(labels == 2, 4, labels)


CASES = {
    "separable": correlated(200, 100, 5, 0.0),
    "not separable": correlated(2000, 16, 6, 2.0),
    "fewer images than features": correlated(40, 120, 5, 1.0),
    "two classes": correlated(400, 40, 2, 0.5),
    "copies that contradict each other": copies(),
    "near copies that contradict each other": near_copies(160, 60, 12),
    "constant and doubled features": constants(),
    "features of wildly different scale": scales(),
    "features of a thousand": (correlated(300, 30, 4, 0.5)[0] * 50 + 1000, correlated(300, 30, 4, 0.5)[1]),
    "a rare class and an absent one": rare(),
}


def missing(features: Tensor, labels: Tensor, solution: Solution) -> tuple[float, float]:
    """Upper bound on how far the head's objective lies above its least value; and the objective.

    With the biases at their best, the objective is a convex function of the weights whose second derivatives are at least
    ``l2``: at a slope ``g`` it misses at most ``|g|^2 / (2 l2)``. What the head's own biases miss comes on top.
    """
    standard = Standardisation.of(features)
    x = standard(features).numpy()
    present, y = np.unique(labels.numpy(), return_inverse=True)
    w = solution.weight.double().numpy()[present] * standard.std.numpy()
    b = solution.bias.double().numpy()[present] + solution.weight.double().numpy()[present] @ standard.mean.numpy()
    scores, one_hot = x @ w.T, np.eye(len(present))[y]
    own = loss = float((logsumexp(scores + b, axis=1) - (scores + b)[np.arange(len(y)), y]).mean())
    for _ in range(20):
        p = np.exp(log_softmax(scores + b, axis=1))
        hessian = (np.diag(p.sum(0)) - p.T @ p) / len(y)
        b = b - np.linalg.lstsq(hessian, (p - one_hot).mean(0), rcond=1e-13)[0]
    p = np.exp(log_softmax(scores + b, axis=1))
    assert np.abs((p - one_hot).mean(0)).max() < 1e-13
    loss = float((logsumexp(scores + b, axis=1) - (scores + b)[np.arange(len(y)), y]).mean())
    slope = (p - one_hot).T @ x / len(y) + solution.l2 * w
    return own - loss + float((slope**2).sum()) / (2 * solution.l2), own + solution.l2 / 2 * float((w**2).sum())


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_missing(case: str) -> None:
    features, labels = CASES[case]
    for solution in solve_path(features, labels, int(labels.max()) + 1, (*PATH, 1e-6)):
        above, objective = missing(features, labels, solution)
        assert above <= 1e-10 + 3e-12 / solution.l2
        assert solution.loss == pytest.approx(objective, abs=1e-9)
        assert solution.gradient < 5e-6


@pytest.mark.parametrize("case", CASES)
def test_in_float32_hardly_more(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As large problems are solved."""
    monkeypatch.setattr(log_loss, "EXACT", 0)
    monkeypatch.setattr(log_loss, "BLOCK", 4000)
    features, labels = CASES[case]
    for solution in solve_path(features, labels, int(labels.max()) + 1, PATH):
        above, objective = missing(features, labels, solution)
        print(case, solution.l2, above, solution.gradient, solution.iterations, solution.loss - objective)
