"""The index is true: names, shapes and arithmetic of a sample of networks, built here."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from robust_transfer.foreign.families.signatures import arithmetic, index, signature


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "convnext_atto", "mobilenetv3_small_050"])
def test_the_index_holds_what_timm_builds(name: str) -> None:
    entry = next(entry for entry in index() if entry.name == name)
    with torch.device("meta"):
        headless, whole = timm.create_model(name, num_classes=0), timm.create_model(name, num_classes=11)
    assert signature(headless.state_dict()) == entry.signature
    assert signature(whole.state_dict(), without=entry.head) == entry.signature
    assert arithmetic(headless) == entry.arithmetic


def test_most_of_timm_is_in_it() -> None:
    known = {entry.name for entry in index()}
    assert len(known & set(timm.list_models())) > 1000
    assert {"torchvision/vgg16", "torchvision/googlenet", "wide_resnet50_2", "xcit_small_12_p16_224"} <= known


def test_a_signature_is_of_names_and_shapes() -> None:
    state = {"a.weight": torch.zeros(2, 3), "fc.weight": torch.zeros(5, 2), "fc.bias": torch.zeros(5)}
    other = {**state, "a.weight": torch.ones(2, 3), "a.num_batches_tracked": torch.tensor(3)}
    assert signature(state) == signature(other) == signature(dict(reversed(state.items())))
    assert signature(state) != signature({**state, "a.weight": torch.zeros(3, 2)})
    assert signature(state, "fc") == signature({"a.weight": torch.zeros(2, 3)})
    assert signature({"pos_embed": torch.zeros(1, 5, 8)}) == signature({"pos_embed": torch.zeros(1, 197, 8)})


def test_arithmetic_tells_activations_and_strides_but_not_dropout() -> None:
    def network(act: nn.Module, stride: int, rate: float) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 3, stride), act, nn.Dropout(rate))

    plain = arithmetic(network(nn.ReLU(), 1, 0.0))
    assert arithmetic(network(nn.ReLU(), 1, 0.5)) == plain
    assert arithmetic(network(nn.GELU(), 1, 0.0)) != plain
    assert arithmetic(network(nn.ReLU(), 2, 0.0)) != plain
