"""Distances of features: by hand, their gradients where training starts, and directions."""

from __future__ import annotations

import torch

from robust_transfer.strategies.feature_distance import feature_distance


def test_directions_by_hand() -> None:
    """M = diag(4, 1/4): a move of 3 along the first axis is one of 6, of 4 along the second one of 2."""
    root = torch.diag(torch.tensor([2.0, 0.5]))
    z, z0 = torch.tensor([[3.0, 0.0], [0.0, 4.0], [3.0, 4.0]]), torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    torch.testing.assert_close(feature_distance(z, z0, "l2", root), torch.tensor([6.0, 2.0, 40.0**0.5]))
    torch.testing.assert_close(feature_distance(z, z0, "squared-l2", root), torch.tensor([36.0, 4.0, 40.0]))


def test_the_gradient_is_that_of_the_quadratic_form() -> None:
    generator = torch.Generator().manual_seed(0)
    raw = torch.randn(7, 7, generator=generator)
    root = raw @ raw.T / 7 + torch.eye(7)
    m, z0 = root @ root, torch.randn(5, 7, generator=generator)
    z = (z0 + torch.randn(5, 7, generator=generator)).requires_grad_(True)
    feature_distance(z, z0, "l2", root).sum().backward()
    difference = (z - z0).detach()
    size = torch.einsum("bi,ij,bj->b", difference, m, difference).sqrt()
    torch.testing.assert_close(z.grad, difference @ m / size[:, None], rtol=1e-4, atol=1e-6)


def test_rounding_does_not_pull_in_any_direction() -> None:
    z0 = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    z = (z0 * (1 + 1e-7 * torch.randn(6, 50, generator=torch.Generator().manual_seed(1)))).requires_grad_(True)
    assert not torch.equal(z, z0)
    feature_distance(z, z0, "l2", 100 * torch.eye(50)).sum().backward()
    assert z.grad is not None
    assert not z.grad.any()
