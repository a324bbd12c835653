"""Padding at one side before a stride: what TensorFlow's SAME does, at even and at odd sizes of the image."""

from __future__ import annotations

import published
import pytest
import torch
from torch import nn

from robust_transfer import networks
from robust_transfer.classifier import Classifier, NetworkSpec
from robust_transfer.errors import NetworkError
from robust_transfer.networks.padding import OneSidedConv, padded_conv
from robust_transfer.preprocessing import Preprocessing


@torch.no_grad()
def test_nothing_is_padded_at_the_left_and_above() -> None:
    layer = padded_conv(1, 1, 2, "asymmetric")
    assert isinstance(layer, OneSidedConv)
    nn.init.constant_(layer.weight, 1)
    x = torch.arange(16.0).view(1, 1, 4, 4)
    sums = [[45, 39], [66, 50]]  # of 3x3, 3x2, 2x3 and 2x2 pixels, in the order of reading
    assert layer(x).tolist() == [[sums]]
    assert [layer(torch.zeros(1, 1, n, n)).shape[-1] for n in (4, 5, 6, 7)] == [2, 2, 3, 3]
    both = padded_conv(1, 1, 2, "symmetric")
    nn.init.constant_(both.weight, 1)
    assert both(x).tolist() == [[[[10, 24], [51, 90]]]]
    assert not isinstance(padded_conv(1, 1, 1, "asymmetric"), OneSidedConv)
    with pytest.raises(ValueError, match="padding must be asymmetric or symmetric, not 'same'"):
        padded_conv(1, 1, 1, "same")


@pytest.mark.parametrize("size", [28, 33, 35])
@pytest.mark.parametrize("padding", ["asymmetric", "symmetric"])
@torch.no_grad()
def test_images_of_odd_size(size: int, padding: str) -> None:
    state = published.dm_preact()
    body = networks.create("dm_preact_resnet", num_classes=0, input_size=32, width=4, padding=padding).double().eval()
    body.load_state_dict({key: value for key, value in state.items() if not key.startswith("logits")})
    x = torch.rand(2, 3, size, size, dtype=torch.float64)
    expected = published.dm_preact_logits(state, x, padding=padding)
    torch.testing.assert_close(published.linear(state, "logits", body(x)), expected)


def test_two_paths_that_do_not_fit_are_said() -> None:
    spec = NetworkSpec(
        name="dm_wrn", num_classes=10, preprocessing=Preprocessing(size=30), settings={"depth": 10, "width": 1}
    )
    with pytest.raises(
        NetworkError, match=r"cannot read 30x30 images: .* sides of a multiple of 4 pixels, not \(30, 30\)"
    ):
        Classifier.build(spec)
    body = networks.create("dm_wrn", num_classes=0, input_size=30, depth=10, width=1, padding="symmetric")
    assert body(torch.zeros(2, 3, 30, 30)).shape == (2, 64)
