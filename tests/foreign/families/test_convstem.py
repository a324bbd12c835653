"""ConvStem networks: logits of files in the authors' layout are those of a reference written in functions."""

from __future__ import annotations

import pytest
import torch
from foreign_helpers import loaded, recognised_as, same
from published_convstem import convnext, convnext_shapes, drawn, vit, vit_shapes
from torch import Tensor

from robust_transfer import networks
from robust_transfer.errors import CheckpointError
from robust_transfer.foreign.families import recognised

State = dict[str, Tensor]
X = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


# ---------------------------------------------------------------- recognised, and the same


@pytest.mark.parametrize(("widths", "strides"), [([6, 12], [2, 2]), ([8, 10, 12], [2, 2, 1])])
def test_convnext(widths: list[int], strides: list[int]) -> None:
    depths, dims = [1, 1, 2, 1], [12, 16, 20, 24]
    state = drawn(convnext_shapes(widths, depths, dims, 7))
    found = recognised_as(state, "convstem")
    assert found.settings == {"depths": depths, "dims": dims, "stem": widths}
    assert (found.num_classes, found.head, found.unused) == (7, "head.fc", ())
    assert [p.normalisation.std[0] for p in found.preprocessings] == [1.0, 0.229, 0.5], "raw pixels come first"
    with torch.no_grad():
        same(loaded(state, "convstem", size=64)(X), convnext(state, strides, depths, X))


def test_vit() -> None:
    state = drawn(vit_shapes([4, 6, 8, 10], 128, 2, 17, 5))
    found = recognised_as(state, "convstem")
    assert found.settings == {"embed_dim": 128, "depth": 2, "num_heads": 2, "stem": [4, 6, 8, 10]}
    assert found.preprocessings[0].size == 64
    assert found.preprocessings[0].normalisation.mean == (0.485, 0.456, 0.406)
    with torch.no_grad():
        same(loaded(state, "convstem")(X), vit(state, 2, 2, X))


@pytest.mark.parametrize(
    ("stem", "depths", "dims", "millions"),
    [  # Singh et al. 2023, table 1, and the sizes of their files over 4
        ([48, 96], [3, 3, 9, 3], [96, 192, 384, 768], 28.6),
        ([64, 96, 128], [3, 3, 27, 3], [128, 256, 512, 1024], 88.7),
    ],
)
def test_parameter_counts(stem: list[int], depths: list[int], dims: list[int], millions: float) -> None:
    with torch.device("meta"):
        body = networks.create(
            "convstem_convnext", num_classes=1000, input_size=224, stem=stem, depths=depths, dims=dims
        )
    assert sum(p.numel() for p in body.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)


def test_what_is_missing_is_said() -> None:
    state = drawn(convnext_shapes([6, 12], [1, 1, 1, 1], [12, 16, 20, 24], 7))
    del state["stages.2.blocks.0.mlp.fc1.bias"]
    with pytest.raises(CheckpointError, match="not all of a network with depths 1, 1, 1, 1"):
        recognised(state)
    del state["stages.2.blocks.0.norm.weight"]
    with pytest.raises(CheckpointError, match=r"'stages\.2\.blocks\.0\.norm\.weight' is missing"):
        recognised(state)
