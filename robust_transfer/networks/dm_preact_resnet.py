"""Pre-activation ResNet in the layout of DeepMind's files (Rebuffi et al. 2021; Rade & Moosavi-Dezfooli 2021).

Differences beside the names: Swish, 3x3 shortcuts on a block's bare input, and one-sided padding before strided
convolutions.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from torch import Tensor, nn

from robust_transfer.networks.activations import Activate, activation_named
from robust_transfer.networks.base import PooledNetwork, conv
from robust_transfer.networks.kuangliu_resnet import four_stages, stages
from robust_transfer.networks.names import register
from robust_transfer.networks.padding import padded_conv


class Block(nn.Module):
    """Norm, activation and 3x3 convolution twice, and a shortcut, 3x3 where shapes change."""

    def __init__(self, inputs: int, outputs: int, stride: int, activate: Activate, padding: str) -> None:
        super().__init__()
        self.activate = activate
        self.batchnorm_0 = nn.BatchNorm2d(inputs)
        self.conv_2d_1 = padded_conv(inputs, outputs, stride, padding)
        self.batchnorm_1 = nn.BatchNorm2d(outputs)
        self.conv_2d_2 = conv(outputs, outputs, 3)
        changes = inputs != outputs or stride != 1
        self.shortcut = padded_conv(inputs, outputs, stride, padding) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps to feature maps."""
        carried = x if self.shortcut is None else self.shortcut(x)
        y = self.conv_2d_1(self.activate(self.batchnorm_0(x)))
        return carried + cast(Tensor, self.conv_2d_2(self.activate(self.batchnorm_1(y))))


class DMPreActResNet(PooledNetwork):
    """Pre-activation ResNet-``depth`` (18 or 34) with ``width`` channels in the stem."""

    def __init__(
        self,
        *,
        depth: int = 18,
        width: int = 64,
        activation: str = "silu",
        padding: str = "asymmetric",
        num_classes: int = 10,
        in_chans: int = 3,
    ) -> None:
        super().__init__()
        bottleneck, counts = stages(depth)
        if bottleneck:
            raise ValueError(f"the depth is 18 or 34, not {depth}")
        self.activate = activation_named(activation)
        block = partial(Block, activate=self.activate, padding=padding)
        self.conv_2d = conv(in_chans, width, 3)
        self.layer_0, self.layer_1, self.layer_2, self.layer_3 = four_stages(block, counts, width, 1)
        self.batchnorm = nn.BatchNorm2d(8 * width)
        config = {"input_size": (3, 32, 32), "classifier": "head", "first_conv": "conv_2d", "pool_size": (4, 4)}
        self.finish(8 * width, num_classes, {"url": "", **config})

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """timm's description of the blocks: the stem, then one a block; the last norm is in the last block's."""
        return {"stem": r"^conv_2d\.", "blocks": [(r"^layer_(\d+)\.(\d+)", None), (r"^batchnorm\.", (99999,))]}

    def forward_features(self, x: Tensor) -> Tensor:
        """Last feature maps, ``(B, 8 * width, h, w)``."""
        x = self.layer_3(self.layer_2(self.layer_1(self.layer_0(self.conv_2d(x)))))
        return self.activate(self.batchnorm(x))


__all__ = ["DMPreActResNet"]
NETWORKS = {"dm_preact_resnet": "pre-activation ResNet as DeepMind's files name it: Swish, 3x3 shortcuts"}
register("dm_preact_resnet", NETWORKS["dm_preact_resnet"], DMPreActResNet, __name__)
