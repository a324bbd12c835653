"""MeanSparse: values in the band are the mean, and the gradient does not know of it."""

from __future__ import annotations

import torch

from robust_transfer.networks.mean_sparse import MeanSparse


def layer(threshold: float) -> MeanSparse:
    made = MeanSparse(2)
    state = {"running_mean": torch.tensor([1.0, -1.0]), "running_var": torch.tensor([4.0, 1.0])}
    made.load_state_dict(state | {"threshold": torch.tensor(threshold)})
    return made


def test_values_within_so_many_deviations_of_the_mean_become_the_mean() -> None:
    x = torch.tensor([[0.1, 1.9, 2.1, -0.1], [-0.6, -1.4, -1.6, -0.4]]).view(1, 2, 1, 4)
    expected = torch.tensor([[1.0, 1.0, 2.1, -0.1], [-1.0, -1.0, -1.6, -0.4]]).view(1, 2, 1, 4)
    assert torch.equal(layer(0.5)(x), expected)
    assert torch.equal(layer(0.0)(x), x)


def test_the_gradient_is_the_identitys() -> None:
    x = torch.zeros(1, 2, 3, 3, requires_grad=True)
    weights = torch.randn(1, 2, 3, 3)
    (layer(3.0)(x) * weights).sum().backward()
    assert torch.equal(layer(3.0)(x)[0, 0], torch.ones(3, 3)), "all are within the band"
    assert x.grad is not None
    assert torch.equal(x.grad, weights)
