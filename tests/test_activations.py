"""Activations of blocks: which modules they are, and that a pass is captured as it is computed."""

from __future__ import annotations

import pytest
import torch
from helpers import make_classifier

from robust_transfer.activations import block_modules, by_channel, captured
from robust_transfer.classifier import Classifier, NetworkSpec
from robust_transfer.preprocessing import Preprocessing


@pytest.mark.parametrize("name", ["wrn_16_1", "preact_resnet18_w32", "resnet18_cifar", "resnet10t", "convnext_atto"])
def test_blocks_are_modules_in_order_and_none_within_another(name: str) -> None:
    classifier = Classifier.build(NetworkSpec(name=name, num_classes=10, preprocessing=Preprocessing(size=32)))
    found = block_modules(classifier)
    assert len(found) == len(classifier.blocks()) - 1
    paths = list(found)
    assert not any(a != b and a.startswith(f"{b}.") for a in paths for b in paths)


def test_a_pass_is_captured_with_its_graph_and_hooks_are_removed() -> None:
    classifier, x = make_classifier().eval(), torch.rand(3, 3, 8, 8)
    with captured(block_modules(classifier)) as found:
        classifier(torch.rand(3, 3, 8, 8))
        classifier(x)
    wanted = classifier.body.get_submodule("units")(classifier.body.get_submodule("conv1")(classifier.normalise(x)))
    assert list(found) == ["conv1", *(f"units.{number}" for number in range(6))]
    torch.testing.assert_close(found["units.5"], wanted)
    found["conv1"].square().sum().backward()
    assert classifier.body.get_submodule("conv1").weight.grad is not None
    assert not any(module._forward_hooks for module in classifier.modules())


@pytest.mark.parametrize("shape", [(2, 5, 3, 4), (2, 12, 5), (2, 5)])
def test_channels_are_found_in_every_layout(shape: tuple[int, ...]) -> None:
    maps = torch.randn(shape)
    found = by_channel(maps)
    assert found.shape[:2] == (2, 5)
    torch.testing.assert_close(found.square().sum((1, 2)), maps.flatten(1).square().sum(1))
    if len(shape) == 3:
        assert torch.equal(found[1, 3], maps[1, :, 3])
