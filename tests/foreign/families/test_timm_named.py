"""Networks as timm names them, today and earlier: found whatever their classes, with timm's logits."""

from __future__ import annotations

import re
from typing import Any

import pytest
import timm
import torch
from foreign_helpers import loaded, randomised, recognised_as, same
from torch import Tensor, nn

from robust_transfer.foreign.families import signatures, timm_named


def author(name: str, **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    made: nn.Module = timm.create_model(name, pretrained=False, **{"num_classes": 7, **settings})
    return randomised(made)


@pytest.mark.parametrize(
    ("name", "size"),
    [("resnetv2_50", 64), ("mobilenetv3_small_050", 64), ("efficientnet_lite0", 64), ("resnet18d", 64)],
)
def test_logits(name: str, size: int) -> None:
    model = author(name)
    state = model.state_dict()
    found = recognised_as(state, "timm")
    assert found.network == name
    x = torch.rand(2, 3, size, size)
    with torch.no_grad():
        same(loaded(state, "timm", size=size)(x), model(x))


@pytest.mark.parametrize("size", [224, 32])
def test_transformers_of_other_sizes(size: int) -> None:
    model = author("vit_tiny_patch16_224", img_size=size)
    state = model.state_dict()
    found = recognised_as(state, "timm")
    assert found.network == "vit_tiny_patch16_224"
    assert found.preprocessings[0].size == size
    x = torch.rand(1, 3, size, size)
    with torch.no_grad():
        same(loaded(state, "timm")(x), model(x))


def test_networks_that_compute_otherwise_with_the_same_weights_are_named() -> None:
    with torch.device("meta"):
        state = timm.create_model("vit_base_patch32_clip_quickgelu_224", num_classes=5).state_dict()
    found = recognised_as(state, "timm")
    names = {found.network, *found.alternatives}
    assert {"vit_base_patch32_clip_224", "vit_base_patch32_clip_quickgelu_224"} <= names
    assert "compute otherwise: name" in " ".join(found.inferred)


def old_swin(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of timm 0.6, as in ARES's files: a stage's reduction at its end, the head without a part, buffers stored."""
    old = dict[str, Tensor]()
    for key, value in state.items():
        key = re.sub(r"layers\.(\d+)\.downsample", lambda found: f"layers.{int(found[1]) - 1}.downsample", key)
        old[key.replace("head.fc.", "head.")] = value
    old["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.long)
    old["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    return old


def test_older_names_are_translated() -> None:
    model = author("swin_tiny_patch4_window7_224")
    state = old_swin(model.state_dict())
    found = recognised_as(state, "timm")
    assert found.network == "swin_tiny_patch4_window7_224"
    assert found.head == "head.fc"
    assert set(found.unused) == {"layers.0.blocks.0.attn.relative_position_index", "layers.0.blocks.1.attn_mask"}
    assert "older timm" in found.inferred[-1]
    x = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        same(loaded(state, "timm")(x), model(x))


def test_older_names_of_densenet() -> None:
    model = author("densenet121")
    state = {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", k): v for k, v in model.state_dict().items()}
    state = {key: value for key, value in state.items() if "num_batches" not in key}  # they are older than counters
    assert "features.denseblock1.denselayer1.norm.1.weight" in state
    found = recognised_as(state, "timm")
    assert (found.network, found.head, found.unused) == ("densenet121", "classifier", ())
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        same(loaded(state, "timm", size=32)(x), model(x))


def test_networks_that_the_index_lacks_are_built_and_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    state = author("resnet18d").state_dict()
    kept = tuple(entry for entry in signatures.index() if entry.name != "resnet18d")
    monkeypatch.setattr(timm_named, "index", lambda: kept)
    monkeypatch.setattr(timm, "list_models", lambda: ["resnet18d", "resnet18"])
    assert recognised_as(state, "timm").network == "resnet18d"
