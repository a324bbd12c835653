"""The probe reaches the optimum, as NumPy finds in float64 from the head alone: an upper bound on how much is missing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logsumexp
from torch import Tensor

from robust_transfer.strategies import curvature, log_loss, newton
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
    features, labels = CASES[case]
    classes = int(labels.max()) + 1
    exact = solve_path(features, labels, classes, PATH)
    monkeypatch.setattr(log_loss, "EXACT", 0)
    monkeypatch.setattr(log_loss, "BLOCK", 4000)
    for solution, best in zip(solve_path(features, labels, classes, PATH), exact, strict=True):
        _, objective = missing(features, labels, solution)
        assert objective == pytest.approx(best.loss, abs=3e-8)
        assert solution.loss == pytest.approx(objective, abs=3e-7)
        assert solution.gradient < 1e-4


def by_hand(problem: log_loss.LogLoss, p: Tensor, penalty: Tensor) -> Tensor:
    """The Hessian as a matrix, rows and columns ordered by class, then by feature."""
    x, n = problem.x.double(), len(problem.x)
    classes = torch.diag_embed(p.T) - p.T[:, :, None] * p.T[:, None]
    whole = torch.einsum("nkl,ni,nj->kilj", classes, x, x) / n
    size = problem.classes * x.shape[1]
    return whole.reshape(size, size) + torch.diag(penalty.repeat(problem.classes))


@pytest.fixture(scope="module")
def somewhere() -> tuple[log_loss.LogLoss, log_loss.Point, Tensor]:
    """A problem, a point with no special place, and a penalty."""
    features, labels = correlated(300, 12, 4, 1.0)
    problem = log_loss.LogLoss(Standardisation.of(features)(features), labels, 4)
    weight = torch.randn(problem.zeros().shape, generator=torch.Generator().manual_seed(1)).double()
    penalty = torch.full((13,), 0.01).double()
    penalty[-1] = 0
    return problem, problem.at(weight), penalty


def test_products_are_with_the_hessian(
    somewhere: tuple[log_loss.LogLoss, log_loss.Point, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, point, _ = somewhere
    monkeypatch.setattr(log_loss, "BLOCK", 1000)
    direction = torch.randn(4, 13, generator=torch.Generator().manual_seed(2))

    def loss(weight: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(problem.x @ weight.T, problem.labels)

    _, expected = torch.autograd.functional.hvp(loss, point.weight, direction.double())
    torch.testing.assert_close(problem.product(point.p, direction).double(), expected, rtol=1e-4, atol=1e-6)
    gradient = torch.autograd.functional.jacobian(loss, point.weight)
    torch.testing.assert_close(problem.at(point.weight).gradient, gradient, rtol=1e-9, atol=1e-12)


def test_factors_are_exact_where_all_images_are_equally_sure(
    somewhere: tuple[log_loss.LogLoss, log_loss.Point, Tensor],
) -> None:
    """Then the Hessian is a product of the classes' covariance and the features'. (Its null space is left out.)"""
    problem, _, penalty = somewhere
    weight = problem.zeros()
    weight[:, -1] = torch.tensor([0.3, -1.0, 2.0, 0.1])
    p = problem.at(weight).p
    residual = torch.randn(4, 13, generator=torch.Generator().manual_seed(2))
    residual -= residual.mean(0)
    direction = curvature.factored(problem, p, penalty.float())(residual)
    image = (by_hand(problem, p.double(), penalty) @ direction.flatten().double()).view(4, 13)
    torch.testing.assert_close(image - image.mean(0), residual.double(), rtol=1e-3, atol=1e-3)


def test_blocks_are_the_hessians(somewhere: tuple[log_loss.LogLoss, log_loss.Point, Tensor]) -> None:
    problem, point, penalty = somewhere
    hessian = by_hand(problem, point.p.double(), penalty)
    residual = torch.randn(4, 13, generator=torch.Generator().manual_seed(2))
    found = curvature.by_class(problem, point.p, penalty.float())(residual)
    for k in range(4):
        block = hessian[13 * k : 13 * (k + 1), 13 * k : 13 * (k + 1)]
        expected = torch.linalg.solve(block, residual[k].double())
        torch.testing.assert_close(found[k].double(), expected, rtol=1e-3, atol=1e-3)


def test_the_dear_preconditioner_takes_over_and_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """On near copies with other labels, where the cheap one needs several times as many products."""
    products = 0
    features, labels = CASES["near copies that contradict each other"]
    product, made = log_loss.LogLoss.product, []

    def counted(self: log_loss.LogLoss, p: Tensor, direction: Tensor) -> Tensor:
        nonlocal products
        products += 1
        return product(self, p, direction)

    def noted(problem: log_loss.LogLoss, p: Tensor, penalty: Tensor) -> curvature.Inverse:
        made.append(float(penalty[0]))
        return curvature.by_class(problem, p, penalty)

    monkeypatch.setattr(log_loss.LogLoss, "product", counted)
    monkeypatch.setattr(newton, "by_class", noted)
    solve_path(features, labels, 12, PATH)
    with_it, products = products, 0
    assert made
    assert max(made) < 0.05  # strong penalties do without
    monkeypatch.setattr(newton, "worthwhile", lambda problem: 10**4)
    solve_path(features, labels, 12, PATH)
    assert products > 4 * with_it


def test_a_block_that_rounding_makes_indefinite_is_not_inverted() -> None:
    features, labels = correlated(300, 12, 4, 1.0)
    problem = log_loss.LogLoss(Standardisation.of(features)(features), labels, 4)
    p, penalty = problem.at(problem.zeros()).p, torch.full((13,), -1.0)
    residual = torch.ones(4, 13)
    same = curvature.factored(problem, p, penalty)(residual)
    assert torch.equal(curvature.by_class(problem, p, penalty)(residual), same)


def test_fewer_images_than_features_are_solved_in_as_many_axes() -> None:
    """The optimum lies in the span of the images, and none of what they say is lost."""
    features, labels = CASES["fewer images than features"]
    standard = Standardisation.of(features)(features)
    axes = log_loss.LogLoss(standard, labels, 5).axes
    assert axes.shape == (120, 39)  # they are centred
    torch.testing.assert_close(axes.T @ axes, torch.eye(39).double())
    torch.testing.assert_close(standard @ axes @ axes.T, standard)


@pytest.mark.parametrize("inverse", [curvature.factored, curvature.by_class])
def test_a_weight_is_as_many_rows_to_the_curvature(inverse: Callable[..., curvature.Inverse]) -> None:
    features, labels = correlated(60, 8, 3, 0.5)
    times = 1 + torch.arange(60) % 4
    standard = Standardisation.of(features)(features)
    weighted = log_loss.LogLoss(standard, labels, 3, times / times.double().mean())
    repeated = log_loss.LogLoss(standard.repeat_interleave(times, 0), labels.repeat_interleave(times), 3)
    penalty = torch.tensor([0.01] * 8 + [0.0])
    repeated.rows = (
        weighted.rows.repeat_interleave(times, 0) / weighted.root.repeat_interleave(times)[:, None]
    )  # its axes
    generator = torch.Generator().manual_seed(0)
    at, residual = torch.randn(2, 3, 9, generator=generator, dtype=torch.float64)
    p, residual = weighted.at(at).p, (residual - residual.mean(0)).float()  # as the solver's are
    found = inverse(weighted, p, penalty)(residual)
    wanted = inverse(repeated, p.repeat_interleave(times, 1), penalty)(residual)
    torch.testing.assert_close(found - found.mean(0), wanted - wanted.mean(0), rtol=1e-3, atol=1e-4)
