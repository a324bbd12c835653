"""XCiT: timm's own, with the strides that Debenedetti et al. set to 1 for small images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from foreign_helpers import loaded, randomised, recognised_as, same
from timm.models.xcit import Xcit

from robust_transfer.errors import CheckpointError, NetworkError
from robust_transfer.foreign.families import recognised


def author(stem: int, embed_dim: int = 32, classes: int = 10) -> Any:
    torch.manual_seed(0)
    sizes = {"embed_dim": embed_dim, "depth": 2, "num_heads": 4, "eta": 1.0}
    return randomised(Xcit(patch_size=stem, num_classes=classes, tokens_norm=embed_dim != 128, **sizes))


@pytest.mark.parametrize(("stem", "patch", "size"), [(16, 16, 64), (16, 4, 32), (16, 8, 32), (8, 4, 32), (8, 8, 32)])
def test_logits_for_every_patch(stem: int, patch: int, size: int) -> None:
    model = author(stem)
    for convolution in range({1: 0, 2: 1, 4: 2}[stem // patch]):
        model.patch_embed.proj[2 * convolution][0].stride = (1, 1)
    x = torch.rand(2, 3, size, size)
    with torch.no_grad():
        expected = model(x)
        state = model.state_dict()
        same(loaded(state, "xcit", size=size, patch=patch)(x), expected)
        others = [other for other in recognised_as(state, "xcit").variants["patch"] if other != patch]
        for other in others:
            wrong = loaded(state, "xcit", size=size, patch=other)(x)
            assert float((wrong - expected).abs().max()) > 1e-3 * float(expected.abs().max()), other


@pytest.mark.parametrize(("classes", "first", "size"), [(10, 4, 32), (100, 4, 32), (1000, 16, 224)])
def test_classes_say_which_patch_and_size_come_first(classes: int, first: int, size: int) -> None:
    found = recognised_as(author(16, classes=classes).state_dict(), "xcit")
    assert found.variants["patch"][0] == first
    assert found.preprocessings[0].size == size
    assert found.settings == {"embed_dim": 32, "depth": 2, "num_heads": 4, "stem": 16}


def test_the_nano_network_does_not_normalise_its_tokens() -> None:
    model = author(16, embed_dim=128)
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        same(loaded(model.state_dict(), "xcit", size=32, patch=16)(x), model(x))


def test_what_is_missing_is_said() -> None:
    state = author(16).state_dict()
    del state["blocks.1.norm1.weight"]
    with pytest.raises(CheckpointError, match="not all of an XCiT with 2 blocks of width 32 and 4 heads"):
        recognised(state)
    with pytest.raises(NetworkError, match="patch must be a power of two up to the stem's 8"):
        loaded(author(8).state_dict(), "xcit", size=32, patch=16)
