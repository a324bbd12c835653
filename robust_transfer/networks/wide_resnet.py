"""Wide residual networks for small images (Zagoruyko & Komodakis 2016), and the variant of the transfer paper."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from timm.models import register_model
from torch import Tensor, nn

from robust_transfer.networks.base import CifarNetwork, conv
from robust_transfer.networks.names import OURS


class Unit(nn.Module):
    """A pre-activation residual unit. ``free_shortcut``: average pooling and zero padding in place of a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int, slope: float, free_shortcut: bool, activate_before: bool) -> None:
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
        active = _activate(self.bn1(x), self.slope)
        carried = active if self.activate_before else x
        if self.free_shortcut:
            if self.stride > 1:
                carried = F.avg_pool2d(carried, self.stride)
            before = self.padding // 2
            carried = F.pad(carried, (0, 0, 0, 0, before, self.padding - before))
        else:
            carried = self.shortcut(carried)
        return carried + self.conv2(_activate(self.bn2(self.conv1(active)), self.slope))


def _activate(x: Tensor, slope: float) -> Tensor:
    return F.leaky_relu(x, slope) if slope else F.relu(x)


class Activation(nn.Module):
    """ReLU, or leaky ReLU where ``slope`` is not 0."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
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
        default_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        units = units_per_stage or (depth - 4) // 6
        channels, self.conv1 = 16, conv(in_chans, 16, 3)
        layers = []
        for stage, outputs in enumerate((16 * width, 32 * width, 64 * width)):
            for index in range(units):
                stride = 2 if stage and not index else 1
                # A 1x1 shortcut reads the activated input, an identity the raw one (pre-activation, He et al. 2016).
                before = index == 0 if not free_shortcut else index == 0 and stage == 0
                layers.append(Unit(channels, outputs, stride, slope, free_shortcut, before))
                channels = outputs
        self.units = nn.Sequential(*layers)
        self.last = nn.Sequential(nn.BatchNorm2d(channels), Activation(slope))
        self.finish(channels, num_classes, default_cfg or {})


def _register(name: str, summary: str, **fixed: Any) -> None:
    def entry(pretrained: bool = False, **settings: Any) -> WideResNet:
        wanted = {k: settings[k] for k in ("num_classes", "in_chans") if k in settings}
        return WideResNet(**fixed, **wanted, default_cfg=_default_cfg())

    entry.__name__, entry.__module__ = name, __name__
    __all__.append(name)
    OURS[name] = summary
    register_model(entry)


def _default_cfg() -> dict[str, Any]:
    return {"url": "", "input_size": (3, 32, 32), "classifier": "head", "first_conv": "conv1", "pool_size": (8, 8)}


__all__ = ["Unit", "WideResNet"]
for _depth, _width in ((16, 1), (16, 2), (16, 3), (16, 4), (16, 8), (16, 10), (28, 10), (34, 10)):
    _register(
        f"wrn_{_depth}_{_width}",
        f"wide residual network, depth {_depth}, width {_width}",
        depth=_depth,
        width=_width,
    )
_register(
    "wrn_32_10_shafahi",
    "the transfer paper's WRN-32-10: 17 blocks, leaky ReLU 0.1, parameter-free shortcuts",
    depth=32,
    width=10,
    units_per_stage=5,
    slope=0.1,
    free_shortcut=True,
)
