"""Wide residual networks for small images (Zagoruyko & Komodakis 2016), and the variant of the transfer paper."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from robust_transfer.networks.base import CifarNetwork, conv
from robust_transfer.networks.names import register
from robust_transfer.preprocessing import Normalisation


class Unit(nn.Module):
    """Pre-activation residual unit. ``free_shortcut``: average pooling and zero padding, no 1x1 convolution."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, slope: float, free_shortcut: bool, activate_before: bool
    ) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = conv(inputs, outputs, 3, stride)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = conv(outputs, outputs, 3)
        self.stride, self.padding, self.slope, self.activate_before = stride, outputs - inputs, slope, activate_before
        changes = inputs != outputs or stride != 1
        self.shortcut = conv(inputs, outputs, 1, stride) if changes and not free_shortcut else nn.Identity()
        self.free_shortcut = changes and free_shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps to feature maps."""
        active = _activate(self.bn1(x), self.slope)
        carried: Tensor = active if self.activate_before else x
        if self.free_shortcut:
            if self.stride > 1:
                carried = F.avg_pool2d(carried, self.stride)
            before = self.padding // 2
            carried = F.pad(carried, (0, 0, 0, 0, before, self.padding - before))
        else:
            carried = self.shortcut(carried)
        return carried + cast(Tensor, self.conv2(_activate(self.bn2(self.conv1(active)), self.slope)))


def _activate(x: Tensor, slope: float) -> Tensor:
    return F.leaky_relu(x, slope) if slope else F.relu(x)


class Activation(nn.Module):
    """ReLU, or leaky ReLU where ``slope`` is not 0."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        """Element by element."""
        return _activate(x, self.slope)


class WideResNet(CifarNetwork):
    """WRN-``depth``-``width``: three stages of ``(depth - 4) / 6`` units with 16, 32, 64 times ``width`` channels."""

    def __init__(
        self,
        depth: int,
        width: int,
        *,
        num_classes: int = 10,
        in_chans: int = 3,
        units_per_stage: int | None = None,
        slope: float = 0.0,
        free_shortcut: bool = False,
    ) -> None:
        super().__init__()
        units = units_per_stage or (depth - 4) // 6
        channels, self.conv1 = 16, conv(in_chans, 16, 3)
        layers = []
        for stage, outputs in enumerate((16 * width, 32 * width, 64 * width)):
            for index in range(units):
                stride = 2 if stage and not index else 1
                # A 1x1 shortcut reads the activated input, an identity the raw one (He et al. 2016b); the transfer
                # paper's network, whose shortcuts have no weights, activates before its first unit only.
                before = index == 0 and (stage == 0 if free_shortcut else stride > 1 or channels != outputs)
                layers.append(Unit(channels, outputs, stride, slope, free_shortcut, before))
                channels = outputs
        self.units = nn.Sequential(*layers)
        self.last = nn.Sequential(nn.BatchNorm2d(channels), Activation(slope))
        self.finish(channels, num_classes, _default_cfg())


def _default_cfg() -> dict[str, Any]:
    return {"url": "", "input_size": (3, 32, 32), "classifier": "head", "first_conv": "conv1", "pool_size": (8, 8)}


__all__ = ["Unit", "WideResNet"]
NETWORKS = {
    "wrn_16_1": "wide residual network, depth 16, width 1",
    "wrn_16_2": "wide residual network, depth 16, width 2",
    "wrn_16_3": "wide residual network, depth 16, width 3",
    "wrn_16_4": "wide residual network, depth 16, width 4",
    "wrn_16_5": "wide residual network, depth 16, width 5",
    "wrn_16_6": "wide residual network, depth 16, width 6",
    "wrn_16_7": "wide residual network, depth 16, width 7",
    "wrn_16_8": "wide residual network, depth 16, width 8",
    "wrn_16_9": "wide residual network, depth 16, width 9",
    "wrn_16_10": "wide residual network, depth 16, width 10",
    "wrn_28_10": "wide residual network, depth 28, width 10",
    "wrn_34_10": "wide residual network, depth 34, width 10",
    "wrn_32_10_shafahi": "the transfer paper's WRN-32-10: 17 blocks, leaky ReLU 0.1, parameter-free shortcuts",
}
_SHAFAHI = partial(WideResNet, 32, 10, units_per_stage=5, slope=0.1, free_shortcut=True)
for _name, _summary in NETWORKS.items():
    _depth, _width = (int(part) for part in _name.split("_")[1:3])
    if _name.endswith("shafahi"):  # it standardises each image, as tf.image.per_image_standardization does
        register(_name, _summary, _SHAFAHI, __name__, Normalisation(per_image=True))
    else:
        register(_name, _summary, partial(WideResNet, _depth, _width), __name__)
