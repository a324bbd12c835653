"""ResNets for small images (He et al. 2016a; 3x3 stem, no max-pooling) as kuangliu's and MadryLab's files name them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from torch import Tensor, nn

from robust_transfer.networks.activations import Activate, activation_named
from robust_transfer.networks.base import PooledNetwork, conv
from robust_transfer.networks.names import register
from robust_transfer.networks.resnet import BasicBlock

# He et al. 2016a, table 1: whether blocks are bottlenecks, and how many there are in each stage.
DEPTHS = {
    18: (False, (2, 2, 2, 2)),
    34: (False, (3, 4, 6, 3)),
    50: (True, (3, 4, 6, 3)),
    101: (True, (3, 4, 23, 3)),
    152: (True, (3, 8, 36, 3)),
}


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, each followed by batch norm; the sum is activated.

    ``outputs`` is 4 times the inner width.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, activate: Activate) -> None:
        super().__init__()
        inside = outputs // 4
        self.activate = activate
        self.conv1 = conv(inputs, inside, 1)
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv2 = conv(inside, inside, 3, stride)
        self.bn2 = nn.BatchNorm2d(inside)
        self.conv3 = conv(inside, outputs, 1)
        self.bn3 = nn.BatchNorm2d(outputs)
        changes = inputs != outputs or stride != 1
        self.shortcut = (
            nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)) if changes else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps to feature maps."""
        y = self.activate(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(self.activate(self.bn2(self.conv2(y)))))
        return self.activate(y + self.shortcut(x))


class KuangliuResNet(PooledNetwork):
    """ResNet-``depth`` with ``width`` channels in the stem, and 1, 2, 4 and 8 times as many (bottlenecks: 4 times more)."""

    def __init__(
        self, *, depth: int = 18, width: int = 64, activation: str = "relu", num_classes: int = 10, in_chans: int = 3
    ) -> None:
        super().__init__()
        bottleneck, counts = stages(depth)
        self.activate = activation_named(activation)
        block = partial(Bottleneck if bottleneck else BasicBlock, activate=self.activate)
        self.conv1 = conv(in_chans, width, 3)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1, self.layer2, self.layer3, self.layer4 = four_stages(block, counts, width, 4 if bottleneck else 1)
        config = {"input_size": (3, 32, 32), "classifier": "head", "first_conv": "conv1", "pool_size": (4, 4)}
        self.finish(8 * width * (4 if bottleneck else 1), num_classes, {"url": "", **config})

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """timm's description of the blocks: the stem with its norm, then one a block."""
        return {"stem": r"^conv1\.|^bn1\.", "blocks": r"^layer(\d+)\.(\d+)"}

    def forward_features(self, x: Tensor) -> Tensor:
        """Last feature maps, ``(B, num_features, h, w)``."""
        x = self.activate(self.bn1(self.conv1(x)))
        return cast(Tensor, self.layer4(self.layer3(self.layer2(self.layer1(x)))))


def stages(depth: int) -> tuple[bool, tuple[int, ...]]:
    """True for bottlenecks, and the number of blocks in each stage, by the depth; ValueError for another depth."""
    if depth not in DEPTHS:
        raise ValueError(f"the depth of a ResNet is one of {', '.join(map(str, DEPTHS))}, not {depth}")
    return DEPTHS[depth]


def four_stages(
    block: Callable[[int, int, int], nn.Module], counts: tuple[int, ...], width: int, expansion: int
) -> tuple[nn.Sequential, ...]:
    """Stages of ``block(inputs, outputs, stride)``, from ``width`` channels; all but the first halve the image."""
    inputs, made = width, []
    for stage, count in enumerate(counts):
        outputs = width * 2**stage * expansion
        first = block(inputs, outputs, 2 if stage else 1)
        made.append(nn.Sequential(first, *(block(outputs, outputs, 1) for _ in range(count - 1))))
        inputs = outputs
    return tuple(made)


__all__ = ["KuangliuResNet", "Bottleneck", "stages", "four_stages"]
NETWORKS = {"kuangliu_resnet": "ResNet for 32x32 images as kuangliu's and MadryLab's files name it"}
register("kuangliu_resnet", NETWORKS["kuangliu_resnet"], KuangliuResNet, __name__)
