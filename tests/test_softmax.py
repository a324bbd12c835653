"""The probe's solver against scikit-learn, over a whole path, on real and on degenerate features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import make_classifier, make_digits
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from robust_transfer.run import Run
from robust_transfer.strategies import features_of
from robust_transfer.strategies.linear_probe import PATH
from robust_transfer.strategies.softmax import Standardisation, solve_path


def reference(features, labels, l2):
    """scikit-learn's probabilities at the same optimum."""
    x = Standardisation.of(features)(features).numpy()
    model = LogisticRegression(C=1 / (l2 * len(x)), tol=1e-10, max_iter=20_000).fit(x, labels.numpy())
    return model.predict_proba(x)


@pytest.fixture(scope="module")
def digits():
    loaded = load_digits()
    return torch.from_numpy(loaded.data[:900]).float(), torch.from_numpy(loaded.target[:900])


def test_the_path_is_scikit_learns(digits):
    features, labels = digits
    for solution in solve_path(features, labels, 10, (1.0, 0.03, 0.001)):
        ours = solution.logits(features).double().softmax(1).numpy()
        assert np.abs(ours - reference(features, labels, solution.l2)).max() < 2e-4
        assert solution.gradient < 1e-5


def test_network_features_too():
    task = make_digits(train=200, val=0, test=0)
    features = features_of(make_classifier(), task.train, Run(quiet=True))
    for solution in solve_path(features, task.train.labels, 10, (0.1, 0.001)):
        ours = solution.logits(features).double().softmax(1).numpy()
        assert np.abs(ours - reference(features, task.train.labels, solution.l2)).max() < 5e-4


def test_order_and_repetition_of_the_path_do_not_matter(digits):
    features, labels = digits
    first = solve_path(features, labels, 10, (0.1, 0.01))
    second = solve_path(features, labels, 10, (0.01, 0.1, 0.01))
    assert [s.l2 for s in second] == [0.01, 0.1, 0.01]
    assert torch.equal(first[1].weight, second[0].weight)
    assert torch.equal(second[0].weight, second[2].weight)


def test_a_stronger_penalty_never_fits_better(digits):
    features, labels = digits
    path = solve_path(features, labels, 10, PATH)
    fits = [float(torch.nn.functional.cross_entropy(solution.logits(features), labels)) for solution in path]
    assert fits == sorted(fits, reverse=True)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_the_scale_of_the_features_does_not_matter(digits, scale):
    features, labels = digits
    base = solve_path(features[:300], labels[:300], 10, (0.01,))[0].logits(features)
    scaled = solve_path(features[:300] * scale, labels[:300], 10, (0.01,))[0].logits(features * scale)
    torch.testing.assert_close(scaled, base, rtol=1e-3, atol=1e-3)


def test_degenerate_features():
    """Constant and doubled columns, more features than images, a class that is missing."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 50, generator=generator)
    features = torch.cat([x, x[:, :5], torch.ones(30, 3)], dim=1)
    labels = torch.arange(30) % 3
    solution = solve_path(features, labels, 4, (0.01,))[0]
    assert solution.weight.isfinite().all()
    assert solution.gradient < 1e-5
    assert (solution.logits(features).argmax(1) == labels).all()
    assert solution.logits(features)[:, 3].max() < solution.logits(features).amax(1).min()
    assert torch.allclose(solution.weight[:, :5], solution.weight[:, 50:55], atol=1e-4)  # twins share
    assert solution.weight[:, -3:].abs().max() < 1e-4  # what is constant says nothing
