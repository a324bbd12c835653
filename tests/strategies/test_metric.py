"""A metric of directions: by hand, and its powers."""

from __future__ import annotations

import torch

from robust_transfer.strategies.metric import metric, power


def test_a_metric_by_hand() -> None:
    """d = 2, S / tr S = diag(0.75, 0.25): M = 0.9 * diag(1.5, 0.5) + 0.1."""
    moment = torch.diag(torch.tensor([3.0, 1.0], dtype=torch.float64))
    found = metric(moment, 0.1)
    torch.testing.assert_close(found, torch.diag(torch.tensor([1.45, 0.55], dtype=torch.float64)))
    torch.testing.assert_close(metric(7 * moment, 0.1), found)
    assert torch.equal(metric(moment, 1.0), torch.eye(2, dtype=torch.float64))


def test_powers_multiply_to_the_matrix() -> None:
    raw = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    m = metric(raw @ raw.T, 0.2)  # of rank 3, but for the floor
    root, whiten = power(m, 0.5), power(m, -0.5)
    torch.testing.assert_close(root @ root, m)
    torch.testing.assert_close(root, root.T)
    torch.testing.assert_close(whiten @ m @ whiten, torch.eye(6, dtype=torch.float64))
    assert abs(float(m.trace()) - 6.0) < 1e-12
