"""The probe's solver: convergence, what it says of it, and features and labels that try it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import make_classifier, make_digits
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from robust_transfer.data.weights import balanced
from robust_transfer.run import Run
from robust_transfer.strategies import features_of, log_loss, softmax
from robust_transfer.strategies.linear_probe import PATH
from robust_transfer.strategies.softmax import Standardisation, solve_path

Labelled = tuple[Tensor, Tensor]  # features (n, d), classes (n,)


def made(n: int, d: int, classes: int, noise: float = 2.0, seed: int = 0) -> Labelled:
    """Non-negative, correlated features, as networks have them, and labels that they tell in part."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=generator) * torch.logspace(0, -1.5, d)[:, None]
    features = (torch.randn(n, d, generator=generator) @ mixing).relu() + 0.01
    scores = Standardisation.of(features)(features) @ torch.randn(d, classes, generator=generator).double()
    return features, (scores + noise * d**0.5 * torch.randn(n, classes, generator=generator)).argmax(1)


@pytest.fixture(scope="module")
def digits() -> Labelled:
    loaded = load_digits()
    return torch.from_numpy(loaded.data[:900]).float(), torch.from_numpy(loaded.target[:900])


def log_probabilities(features: Tensor, labels: Tensor, l2: float, solver: str = "lbfgs") -> Any:
    """scikit-learn's at the same optimum, and its weights."""
    x = Standardisation.of(features)(features).numpy()
    model = LogisticRegression(C=1 / (l2 * len(x)), tol=1e-10, max_iter=20_000, solver=solver).fit(x, labels.numpy())
    return model.predict_log_proba(x), model.coef_


def test_the_whole_path_is_scikit_learns() -> None:
    features, labels = made(3000, 64, 5)
    for solution in solve_path(features, labels, 5, PATH):
        theirs, weight = log_probabilities(features, labels, solution.l2, "newton-cg")
        ours = solution.logits(features).double().log_softmax(1).numpy()
        assert np.abs(ours - theirs).max() < 1e-3
        assert solution.converged
        chosen = np.arange(len(labels)), labels.numpy()
        objective = -theirs[chosen].mean() + solution.l2 / 2 * (weight**2).sum()
        assert solution.loss == pytest.approx(objective, abs=1e-9)


@pytest.mark.parametrize("classes", [2, 10])
def test_float32_is_close_enough(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large problems are solved in float32 to a looser tolerance: no log loss moves by 1e-4 for that."""
    features, labels = made(3000, 32, classes)
    unseen, answers = made(1000, 32, classes, seed=1)
    exact = solve_path(features, labels, classes, PATH)
    monkeypatch.setattr(log_loss, "EXACT", 0)
    monkeypatch.setattr(log_loss, "BLOCK", 5000)
    for rough, fine in zip(solve_path(features, labels, classes, PATH), exact, strict=True):
        assert rough.converged
        assert rough.loss == pytest.approx(fine.loss, abs=2e-6)
        for x, y in ((features, labels), (unseen, answers)):
            losses = [float(F.cross_entropy(s.logits(x), y)) for s in (rough, fine)]
            assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_many_classes_converge() -> None:
    features, labels = made(5000, 128, 100)
    for solution in solve_path(features, labels, 100, (0.1, 0.001, 1e-5)):
        assert solution.converged
        assert solution.iterations < 200


def test_separable_data_converge_at_tiny_penalties() -> None:
    features, labels = made(200, 300, 4, noise=0.0)
    losses = [s.loss for s in solve_path(features, labels, 4, (1e-2, 1e-5, 1e-8)) if s.converged]
    assert len(losses) == 3
    assert losses[0] > losses[1] > losses[2] > 0


def test_what_has_not_converged_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = made(500, 32, 4)
    monkeypatch.setattr(softmax, "MAX_NEWTON_STEPS", 2)
    solution = solve_path(features, labels, 4, (1e-5,))[0]
    assert not solution.converged
    assert solution.iterations == 2
    x, w = Standardisation.of(features)(features), solution.weight.double()
    w = (w * Standardisation.of(features).std).requires_grad_(True)
    b = (solution.bias.double() + solution.weight.double() @ Standardisation.of(features).mean).requires_grad_(True)
    objective = F.cross_entropy(x @ w.T + b, labels) + 1e-5 / 2 * w.square().sum()
    at_end = torch.cat([g.flatten() for g in torch.autograd.grad(objective, (w, b))]).norm()
    w0, b0 = torch.zeros_like(w, requires_grad=True), torch.zeros_like(b, requires_grad=True)
    at_zero = torch.cat(
        [g.flatten() for g in torch.autograd.grad(F.cross_entropy(x @ w0.T + b0, labels), (w0, b0))]
    ).norm()
    assert solution.gradient == pytest.approx(float(at_end / at_zero), rel=1e-4)


@pytest.mark.parametrize("scale", [1e-20, 1e-9, 1e4, 1e15])
def test_no_scale_makes_a_feature_constant(scale: float) -> None:
    features, labels = made(300, 16, 3)
    base = solve_path(features, labels, 3, (0.01,))[0].logits(features)
    scaled = solve_path(features * scale, labels, 3, (0.01,))[0].logits(features * scale)
    torch.testing.assert_close(scaled, base, rtol=1e-3, atol=1e-3)


def test_rounding_noise_on_a_constant_is_not_a_feature() -> None:
    features, labels = made(300, 16, 3)
    noise = 7.3 * (1 + 1e-7 * torch.randn(300, 4, generator=torch.Generator().manual_seed(3)))
    solution = solve_path(torch.cat([features, noise], 1), labels, 3, (1e-4,))[0]
    assert solution.weight[:, 16:].abs().max() < 1e-3
    torch.testing.assert_close(
        solution.logits(torch.cat([features, noise], 1)),
        solve_path(features, labels, 3, (1e-4,))[0].logits(features),
        rtol=1e-3,
        atol=1e-3,
    )


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_nearly_dead_feature_weighs_little(scale: float) -> None:
    """Three features that rounding lifts above 0, each on two images of one class; the others are as without them."""
    features, labels = made(300, 16, 3)
    dead = torch.zeros(300, 3)
    for feature in range(3):
        dead[(labels == feature).nonzero()[:2, 0], feature] = 1e-4
    median = float(features.double().std(0, correction=0).median())
    wide = torch.cat([features, dead], 1) * scale
    assert dead.std(0).max() < median / 1000
    solution = solve_path(wide, labels, 3, (0.01,))[0]
    without = solve_path(features * scale, labels, 3, (0.01,))[0]
    assert Standardisation.of(wide).std[16:].tolist() == pytest.approx([scale * median / 256] * 3, rel=0.2)
    assert solution.weight[:, 16:].abs().max() < 10 * without.weight.abs().max()
    torch.testing.assert_close(solution.logits(wide), without.logits(features * scale), rtol=0, atol=5e-3)


def test_classes_without_images_are_all_but_ruled_out() -> None:
    features, labels = made(300, 16, 4)
    gaps = torch.tensor([0, 2, 3, 6])[labels]  # of eight classes, four have no images
    solution = solve_path(features, gaps, 8, (0.01,))[0]
    p = solution.logits(features).double().softmax(1)
    assert p[:, [1, 4, 5, 7]].max() <= 1 / 308
    assert p[:, [1, 4, 5, 7]].max() > 0.5 / 308  # and no less likely than that
    dense = solve_path(features, labels, 4, (0.01,))[0]
    assert torch.equal(solution.weight[[0, 2, 3, 6]], dense.weight)
    assert torch.equal(solution.bias[[0, 2, 3, 6]], dense.bias)


@pytest.mark.parametrize(("n", "d", "classes"), [(2, 128, 2), (20, 8, 10), (50, 1, 2)])
def test_tiny_problems(n: int, d: int, classes: int) -> None:
    features = torch.randn(n, d, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(n) % classes
    for solution in solve_path(features, labels, classes, (0.1, 1e-4)):
        assert solution.converged
        assert solution.weight.isfinite().all()


def test_features_that_say_nothing_give_the_priors() -> None:
    solution = solve_path(torch.full((40, 3), 0.5), torch.tensor([0, 0, 0, 1] * 10), 2, (0.01,))[0]
    assert solution.converged
    p = solution.logits(torch.full((1, 3), 0.5)).softmax(1)
    torch.testing.assert_close(p, torch.tensor([[0.75, 0.25]]), rtol=1e-3, atol=0)


def test_a_sure_head_has_no_denormal_probabilities() -> None:
    """They make products several times slower; cutting them off changes neither loss nor gradient."""
    features, labels = made(400, 8, 3)
    problem = log_loss.LogLoss(Standardisation.of(features)(features), labels, 3)
    weight = 300 * torch.randn(problem.zeros().shape, generator=torch.Generator().manual_seed(0)).double()
    point = problem.at(weight)
    logits = (problem.x @ weight.T).requires_grad_(True)
    expected = F.cross_entropy(logits, labels)
    (by_logits,) = torch.autograd.grad(expected, logits)
    assert point.loss == pytest.approx(float(expected.detach()), rel=1e-12)
    torch.testing.assert_close(point.gradient, by_logits.T @ problem.x, rtol=1e-9, atol=1e-12)
    assert point.p.min() > torch.finfo(torch.float32).tiny


def test_it_is_deterministic() -> None:
    features, labels = made(2000, 64, 20)
    first, second = (solve_path(features, labels, 20, (0.1, 0.001)) for _ in range(2))
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(first, second, strict=True))


def test_network_features_too() -> None:
    task = make_digits(train=200, val=0, test=0)
    features = features_of(make_classifier(), task.train, Run(quiet=True))
    for solution in solve_path(features, task.train.labels, 10, (0.1, 0.001)):
        ours = solution.logits(features).double().log_softmax(1).numpy()
        theirs, _ = log_probabilities(features, task.train.labels, solution.l2)
        assert np.abs(ours - theirs).max() < 1e-3


def test_order_and_repetition_of_the_path_do_not_matter(digits: Labelled) -> None:
    features, labels = digits
    first = solve_path(features, labels, 10, (0.1, 0.01))
    second = solve_path(features, labels, 10, (0.01, 0.1, 0.01))
    assert [s.l2 for s in second] == [0.01, 0.1, 0.01]
    assert torch.equal(first[1].weight, second[0].weight)
    assert torch.equal(second[0].weight, second[2].weight)


def test_a_stronger_penalty_never_fits_better(digits: Labelled) -> None:
    features, labels = digits
    path = solve_path(features, labels, 10, PATH)
    fits = [float(torch.nn.functional.cross_entropy(solution.logits(features), labels)) for solution in path]
    assert fits == sorted(fits, reverse=True)


def test_degenerate_features() -> None:
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


# ---------------------------------------------------------------- weights


def skewed(n: int = 1500, d: int = 24, classes: int = 4) -> Labelled:
    """Classes of which each has a third of the images that the one before has."""
    features, labels = made(4 * n, d, classes)
    kept = torch.cat([(labels == label).nonzero()[:, 0][: n // 3**label] for label in range(classes)])
    return features[kept], labels[kept]


@pytest.mark.parametrize("exact", [True, False])
def test_balanced_weights_are_scikit_learns(exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exact:
        monkeypatch.setattr(log_loss, "EXACT", 0)
    features, labels = skewed()
    weights = balanced(labels, 4)
    scaler = StandardScaler().fit(features.double().numpy(), sample_weight=weights.numpy())
    x = scaler.transform(features.double().numpy())
    for solution in solve_path(features, labels, 4, (0.1, 0.003), weights):
        model = LogisticRegression(C=1 / (solution.l2 * len(x)), class_weight="balanced", tol=1e-10, max_iter=20_000)
        theirs = model.fit(x, labels.numpy()).predict_proba(x)
        ours = solution.logits(features).double().softmax(1).numpy()
        assert np.abs(ours - theirs).max() < (1e-3 if exact else 5e-3)
        assert solution.converged
        assert solution.iterations <= 12  # the curvature knows the weights, too
        plain = solve_path(features, labels, 4, (solution.l2,))[0].logits(features).double().softmax(1).numpy()
        assert np.abs(plain - theirs).max() > 0.05


@pytest.mark.parametrize("by_class", [False, True])
def test_a_weight_counts_as_so_many_images(by_class: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weight 0 as none of them: a class that has no other images has none."""
    if by_class:  # the dearer curvature from the first step on
        monkeypatch.setattr("robust_transfer.strategies.newton.worthwhile", lambda problem: 1)
    features, labels = made(300, 8, 3)
    labels = torch.cat([labels[:-2], torch.tensor([3, 3])])
    times = torch.arange(300) % 4
    times[-2:] = 0
    weighted = solve_path(features, labels, 4, (0.1, 0.001), times.double())
    repeated = solve_path(features.repeat_interleave(times, 0), labels.repeat_interleave(times), 4, (0.1, 0.001))
    for ours, theirs in zip(weighted, repeated, strict=True):
        assert ours.loss == pytest.approx(theirs.loss, abs=1e-9)
        torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-3, atol=1e-3)
