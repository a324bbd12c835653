"""Layers as lists of arrays: what TensorFlow's order of dimensions computes, PyTorch's computes as well."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from robust_transfer.errors import CheckpointError
from robust_transfer.foreign.arrays import holds_lists, layers_of, state_of
from robust_transfer.foreign.contents import Contents
from robust_transfer.foreign.layout import Layout, lay_out

RNG = np.random.default_rng(0)


def array(*shape: int) -> Tensor:
    return torch.from_numpy(RNG.standard_normal(shape).astype(np.float32))


def convolved(image: NDArray[Any], kernel: NDArray[Any], bias: NDArray[Any]) -> NDArray[Any]:
    """As NumPy's users write it, channels last: image (H, W, C), kernel (h, w, C, K), no padding."""
    h, w, _, outs = kernel.shape
    rows, columns = image.shape[0] - h + 1, image.shape[1] - w + 1
    out = np.empty((rows, columns, outs))
    for y in range(rows):
        for x in range(columns):
            out[y, x] = np.tensordot(image[y : y + h, x : x + w], kernel, 3) + bias
    return out


def laid(tree: Any) -> Layout:
    return lay_out(Contents(tree, "pickle"))


KERAS = {
    "conv1": [array(3, 3, 3, 8), array(8)],
    "fire2/expand3x3": (array(3, 2, 8, 8), array(8)),
    "top": [array(8, 5), array(5)],
}


def test_tensorflows_order_is_turned() -> None:
    found = laid(KERAS)
    shapes = {name: tuple(value.shape) for name, value in found.state.items()}
    assert shapes == {
        "conv1.weight": (8, 3, 3, 3), "conv1.bias": (8,),
        "fire2/expand3x3.weight": (8, 8, 3, 2), "fire2/expand3x3.bias": (8,),
        "top.weight": (5, 8), "top.bias": (5,),
    }  # fmt: skip
    assert found.notes == (
        "3 layers are lists of arrays, [weight, bias]: height x width x in x out, turned to out x in x height x width",
    )
    assert found.channels == ("rgb", "bgr")
    image = RNG.standard_normal((7, 6, 3))
    map_ = convolved(image, KERAS["conv1"][0].numpy(), KERAS["conv1"][1].numpy())
    map_ = convolved(map_, KERAS["fire2/expand3x3"][0].numpy(), KERAS["fire2/expand3x3"][1].numpy())
    expected = map_.mean((0, 1)) @ KERAS["top"][0].numpy() + KERAS["top"][1].numpy()
    x = torch.from_numpy(image.transpose(2, 0, 1).copy())[None]
    state = {name: value.double() for name, value in found.state.items()}
    x = F.conv2d(x, state["conv1.weight"], state["conv1.bias"])
    x = F.conv2d(x, state["fire2/expand3x3.weight"], state["fire2/expand3x3.bias"])
    found_logits = F.linear(x.mean((2, 3)), state["top.weight"], state["top.bias"])
    torch.testing.assert_close(found_logits[0], torch.from_numpy(expected))


def test_pytorchs_order_stays() -> None:
    layers = {
        "conv1": [array(8, 3, 3, 3), array(8)],
        "conv2": [array(8, 8, 3, 3), array(8)],
        "top": [array(5, 8), array(5)],
    }
    found = laid({"weights": layers, "epoch": 3})
    assert found.where == "weights"
    assert all(torch.equal(found.state[f"{name}.weight"], weight) for name, (weight, _) in layers.items())
    assert found.notes == ("3 layers are lists of arrays, [weight, bias]: out x in x height x width",)


def test_squares_follow_the_others_and_kernels_tell_by_their_size() -> None:
    tied = {"a": [array(3, 3, 16, 16), array(16)], "b": [array(4, 4)]}
    state, _ = state_of(tied)
    assert torch.equal(state["a.weight"], tied["a"][0].permute(3, 2, 0, 1))
    assert torch.equal(state["b.weight"], tied["b"][0].T)
    state, _ = state_of({"a": [array(16, 16, 3, 3), array(16)]})
    assert state["a.weight"].shape == (16, 16, 3, 3)
    state, _ = state_of({"a": [array(1, 1, 64, 20)]})  # without a bias
    assert state["a.weight"].shape == (20, 64, 1, 1)


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        (
            {"a": [array(3, 3, 3, 8), array(8)], "b": [array(5, 8), array(5)]},
            "'a' the outputs are the last .* in 'b' the first",
        ),
        ({"a": [array(4, 4), array(4)]}, "do not tell whether weights are"),
        ({"a": [array(3, 3, 3, 8), array(9)]}, r"'a' has a weight \(3, 3, 3, 8\) and a bias \(9,\)"),
        ({"a": [array(3, 3, 3, 8), array(8)], "fc6": [array(392, 5), array(5)]}, "'fc6' reads 392 inputs, .* a map of pixels"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_refused(layers: dict[str, list[Tensor]], said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        laid(layers)


def test_other_lists_are_no_layers() -> None:
    for tree in (
        {"bn": [array(8)] * 4, "conv": [array(3, 3, 3, 8), array(8)]},  # of a batch norm no file tells the epsilon
        {"shadow_params": [array(8, 3, 3, 3), array(8), array(5, 8)]},
        {"conv": [array(3, 3, 3, 8), array(8, 1)]},
    ):
        assert holds_lists(tree)
        assert layers_of(tree) == {}
        with pytest.raises(
            CheckpointError, match=r"holds no weights: .*of lists of arrays only \[weight\] and \[weight, bias\]"
        ):
            laid(tree)
    assert not holds_lists({"a": [1, 2], "b": [], "c": array(2)})
    network = {"conv.weight": array(8, 3, 3, 3)}
    assert (
        laid({"ema": {"shadow_params": [array(8, 3, 3, 3), array(8), array(8)], "n": 3}, "model": network}).where
        == "model"
    )
