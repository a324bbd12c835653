"""Pooling on a grid: the means of the cells, of the network's own last pooling, or a refusal."""

from __future__ import annotations

from typing import cast

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from robust_transfer import networks
from robust_transfer.errors import NetworkError
from robust_transfer.networks.pool_grid import pool_on_grid
from robust_transfer.networks.wide_resnet import WideResNet


@pytest.mark.parametrize("grid", [2, 3, 4])
def test_features_are_the_means_of_cells(grid: int) -> None:
    torch.manual_seed(0)
    plain = networks.create("wrn_16_1", num_classes=0, input_size=32).eval()
    gridded = networks.create("wrn_16_1", num_classes=0, input_size=32, pool_grid=grid).eval()
    gridded.load_state_dict(plain.state_dict())
    x = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        maps = cast(WideResNet, plain).forward_features(x)
        expected = F.adaptive_avg_pool2d(maps, grid).flatten(1)
        assert torch.equal(gridded(x), expected)
        rows = maps.tensor_split(4, 2) if grid == 4 else None
        if rows is not None:  # the third channel's cell in the second row and first column
            torch.testing.assert_close(gridded(x)[:, 2 * 16 + 4], rows[1].tensor_split(4, 3)[0][:, 2].mean((1, 2)))


class Excited(nn.Module):
    """Network with a global pooling inside (squeeze and excitation), and one at its end."""

    def __init__(self, after: bool = False) -> None:
        super().__init__()
        self.first, self.squeeze = nn.Conv2d(3, 4, 3, 2), nn.AdaptiveAvgPool2d(1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.after: nn.Module = nn.Linear(4, 6) if after else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.first(x)
        maps = maps * self.squeeze(maps).sigmoid()
        return torch.as_tensor(self.after(self.pool(maps).flatten(1)))


def test_the_pooling_that_comes_last_is_changed() -> None:
    body = Excited().eval()
    assert pool_on_grid(body, 2, 9) == (4, 4, 4)
    assert (body.squeeze.output_size, body.pool.output_size) == (1, 2)
    assert body(torch.rand(2, 3, 9, 9)).shape == (2, 16)


def test_what_computes_on_after_its_pooling_is_refused() -> None:
    body = Excited(after=True).eval()
    with pytest.raises(NetworkError, match="no means over maps"):
        pool_on_grid(body, 2, 9)
    assert body(torch.rand(2, 3, 9, 9)).shape == (2, 6)


class Normed(Excited):
    """Network with a norm of as many features as it has, after its pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.after = nn.BatchNorm1d(4)


def test_a_refused_network_is_left_as_it_was() -> None:
    body = Normed().eval()
    with pytest.raises(NetworkError, match="computes on after its pooling"):
        pool_on_grid(body, 2, 9)
    assert body(torch.rand(2, 3, 9, 9)).shape == (2, 4)


def test_too_fine_a_grid_is_refused() -> None:
    with pytest.raises(NetworkError, match="8x8 pixels, too few for a grid of 9x9"):
        networks.create("wrn_16_1", num_classes=0, input_size=32, pool_grid=9)


def test_a_transformer_has_no_grid() -> None:
    with pytest.raises(NetworkError, match="no means over maps"):
        networks.create("vit_tiny_patch16_224", num_classes=0, input_size=32, pool_grid=2)


@pytest.mark.parametrize("name", ["resnet18", "torchvision/resnet18", "preact_resnet18_w32"])
def test_networks_of_libraries(name: str) -> None:
    body = networks.create(name, num_classes=0, input_size=64, pool_grid=2).eval()
    width = 256 if name.startswith("preact") else 512
    assert body(torch.rand(1, 3, 64, 64)).shape == (1, 4 * width)


def test_a_network_with_its_head_has_no_grid() -> None:
    with pytest.raises(NetworkError, match="without their heads"):
        networks.create("wrn_16_1", num_classes=10, input_size=32, pool_grid=2)
