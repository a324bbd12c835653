"""Bounds of spectral norms lie above the norm of the whole layer's matrix, and on it where they claim to be exact."""

from __future__ import annotations

import pytest
import torch
from certification_helpers import matrix
from torch import nn

from robust_transfer.certification.norms import convolution_norm, linear_norm


@pytest.mark.parametrize(
    ("kernel", "how"),
    [
        (3, {"padding": 1}),
        (3, {}),
        (5, {"padding": 2}),
        (3, {"stride": 2, "padding": 1}),
        (2, {"stride": 2}),
        (4, {"stride": 2, "padding": 1}),
        (1, {"stride": 2}),
        (1, {}),
        (3, {"padding": 1, "groups": 2}),
        (3, {"dilation": 2}),
        ((3, 1), {"padding": (1, 0)}),
    ],
)
def test_no_convolution_stretches_more_than_its_bound(kernel: int | tuple[int, int], how: dict[str, int]) -> None:
    for seed in range(5):
        torch.manual_seed(seed)
        layer = nn.Conv2d(4, 6, kernel, **how)  # type: ignore[arg-type]
        exact = float(torch.linalg.matrix_norm(matrix(layer, 4, 8, 8), 2))
        assert exact <= convolution_norm(layer) <= 3 * exact


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (2, 2), (4, 4), (2, 3)])
def test_it_is_exact_where_patches_do_not_overlap(kernel: int, stride: int) -> None:
    layer = nn.Conv2d(3, 5, kernel, stride)
    exact = torch.linalg.matrix_norm(matrix(layer, 3, 8, 8), 2)
    assert convolution_norm(layer) == pytest.approx(float(exact), rel=1e-6)


def test_the_convolution_that_power_iteration_takes_for_smaller() -> None:
    """One entry of weight 1 everywhere: a constant image is stretched most, 9 times in the limit of large images."""
    layer = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    nn.init.ones_(layer.weight)
    assert convolution_norm(layer) == pytest.approx(9.0)
    assert 8.5 < float(torch.linalg.matrix_norm(matrix(layer, 1, 24, 24), 2)) < 9


def test_a_channel_that_weighs_more_than_its_neighbour() -> None:
    layer = nn.Conv2d(2, 1, 3, padding=1, bias=False)
    layer.weight.data = torch.tensor([1.0, 3.0]).view(1, 2, 1, 1).expand(1, 2, 3, 3).clone()
    exact = float(torch.linalg.matrix_norm(matrix(layer, 2, 12, 12), 2))
    assert 25 < exact <= convolution_norm(layer) <= 9 * 10**0.5 + 1e-6


def test_a_matrix_has_its_largest_singular_value() -> None:
    assert linear_norm(torch.diag(torch.tensor([3.0, -7.0, 2.0]))) == pytest.approx(7.0)
