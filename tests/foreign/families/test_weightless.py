"""Networks without values have the names and shapes of real ones."""

from __future__ import annotations

from functools import partial

import pytest
import timm
import torch
import torchvision
from torch import nn

from robust_transfer import networks
from robust_transfer.foreign.families.weightless import weightless


@pytest.mark.parametrize(
    "make",
    [
        partial(timm.create_model, "vit_tiny_patch16_224", depth=1),
        partial(timm.create_model, "swin_tiny_patch4_window7_224", depths=(1, 1, 1, 1)),
        partial(torchvision.models.get_model, "regnet_x_400mf", weights=None),  # its constructor computes with tensors
        partial(networks.create, "convstem_vit", num_classes=3, input_size=32, depth=1),
    ],
)
def test_names_and_shapes_are_those_of_the_real_network(make: partial[nn.Module]) -> None:
    made, real = weightless(make).state_dict(), make().state_dict()
    assert {key: value.shape for key, value in made.items()} == {key: value.shape for key, value in real.items()}
    assert all(value.is_meta for key, value in made.items() if key.endswith(".weight"))


def test_what_the_mode_cannot_do_is_left_to_pytorch() -> None:
    def make() -> nn.Module:
        made = nn.Linear(3, 2)
        made.bias = nn.Parameter(torch.arange(2.0) + torch.empty(2))
        return made

    assert weightless(make).get_parameter("bias").is_meta


def test_outside_the_mode_tensors_have_values() -> None:
    weightless(partial(nn.Linear, 2, 2))
    assert float(torch.zeros(2).add_(1).sum()) == 2
