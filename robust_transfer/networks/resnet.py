"""ResNet-18 for small images (He et al. 2016a; 3x3 stem, no max-pooling) and its pre-activation form (2016b)."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from robust_transfer.networks.activations import Activate
from robust_transfer.networks.base import CifarNetwork, conv
from robust_transfer.networks.names import register
from robust_transfer.networks.wide_resnet import Unit


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, each followed by batch norm; the sum is activated."""

    def __init__(self, inputs: int, outputs: int, stride: int, activate: Activate = F.relu) -> None:
        super().__init__()
        self.activate = activate
        self.conv1 = conv(inputs, outputs, 3, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = conv(outputs, outputs, 3)
        self.bn2 = nn.BatchNorm2d(outputs)
        changes = inputs != outputs or stride != 1
        self.shortcut = (
            nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)) if changes else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps to feature maps."""
        y = self.bn2(self.conv2(self.activate(self.bn1(self.conv1(x)))))
        return self.activate(y + self.shortcut(x))


class CifarResNet(CifarNetwork):
    """Four stages of two blocks with 1, 2, 4 and 8 times ``base`` channels; ``preact`` chooses pre-activation units.

    ``halved``: the first convolution reads 6x6 pixels in strides of 2, for images of 64 pixels at the cost of 32.
    """

    def __init__(
        self, *, preact: bool, base: int = 64, halved: bool = False, num_classes: int = 10, in_chans: int = 3
    ) -> None:
        super().__init__()
        first = nn.Conv2d(in_chans, base, 6, 2, 2, bias=False) if halved else conv(in_chans, base, 3)
        stem = [first] if preact else [first, nn.BatchNorm2d(base), nn.ReLU()]
        self.conv1 = stem[0] if preact else nn.Sequential(*stem)
        channels, layers = base, []
        for stage in range(4):
            outputs = base * 2**stage
            for index in range(2):
                stride = 2 if stage and not index else 1
                layers.append(
                    Unit(channels, outputs, stride, 0.0, False, stage > 0 and index == 0)
                    if preact
                    else BasicBlock(channels, outputs, stride)
                )
                channels = outputs
        self.units = nn.Sequential(*layers)
        self.last = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU()) if preact else nn.Identity()
        self.finish(channels, num_classes, _default_cfg(preact, 64 if halved else 32))


def _default_cfg(preact: bool, size: int) -> dict[str, Any]:
    first = "conv1" if preact else "conv1.0"
    return {"url": "", "input_size": (3, size, size), "classifier": "head", "first_conv": first, "pool_size": (4, 4)}


__all__ = ["BasicBlock", "CifarResNet"]
NETWORKS = {
    "preact_resnet18": "pre-activation ResNet-18 for 32x32 images",
    "preact_resnet18_w32": "pre-activation ResNet-18 at half the width (2.8M parameters)",
    "preact_resnet18_w32_64": "the same for 64x64 images: a 6x6 stem with a stride of 2",
    "resnet18_cifar": "ResNet-18 for 32x32 images: 3x3 stem, no max-pooling",
}
for _name, _make in zip(
    NETWORKS,
    (
        partial(CifarResNet, preact=True),
        partial(CifarResNet, preact=True, base=32),
        partial(CifarResNet, preact=True, base=32, halved=True),
        partial(CifarResNet, preact=False),
    ),
    strict=True,
):
    register(_name, NETWORKS[_name], _make, __name__)
