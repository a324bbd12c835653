"""Pre-activation ResNets (He et al. 2016b) for small images, in the layout of Rice et al. 2020 and Wong et al. 2020.

Files of this layout leave one setting open: whether a 1x1 shortcut reads a block's input or the activated one.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from torch import Tensor, nn

from robust_transfer.networks.activations import Activate, activation_named
from robust_transfer.networks.base import PooledNetwork, conv
from robust_transfer.networks.kuangliu_resnet import four_stages, stages
from robust_transfer.networks.names import register

SHORTCUTS = ("activated", "input")


class Block(nn.Module):
    """Norm, activation and convolution twice (a bottleneck: 1x1, 3x3, 1x1), and a shortcut, 1x1 where shapes change."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, activate: Activate, bottleneck: bool, shortcut: str
    ) -> None:
        super().__init__()
        inside = outputs // 4 if bottleneck else outputs
        self.activate, self.from_activated = activate, shortcut == "activated"
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = conv(inputs, inside, 1) if bottleneck else conv(inputs, inside, 3, stride)
        self.bn2 = nn.BatchNorm2d(inside)
        self.conv2 = conv(inside, inside, 3, stride if bottleneck else 1)
        self.bn3 = nn.BatchNorm2d(inside) if bottleneck else None
        self.conv3 = conv(inside, outputs, 1) if bottleneck else None
        changes = inputs != outputs or stride != 1
        self.shortcut = nn.Sequential(conv(inputs, outputs, 1, stride)) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps to feature maps."""
        active = self.activate(self.bn1(x))
        carried = x if self.shortcut is None else self.shortcut(active if self.from_activated else x)
        y = self.conv2(self.activate(self.bn2(self.conv1(active))))
        if self.bn3 is not None and self.conv3 is not None:
            y = self.conv3(self.activate(self.bn3(y)))
        return cast(Tensor, y + carried)


class RicePreActResNet(PooledNetwork):
    """Pre-activation ResNet-``depth`` with ``width`` channels in the stem.

    ``last_norm``: a norm and an activation before pooling, as in the paper; without, the features are the bare sums of
    the last block. ``shortcut``: what a 1x1 shortcut reads, a block's ``input`` or that after norm and activation
    (``activated``, as in the paper).
    """

    def __init__(
        self,
        *,
        depth: int = 18,
        width: int = 64,
        activation: str = "relu",
        last_norm: bool = True,
        shortcut: str = "activated",
        num_classes: int = 10,
        in_chans: int = 3,
    ) -> None:
        super().__init__()
        if shortcut not in SHORTCUTS:
            raise ValueError(f"shortcut must be {' or '.join(SHORTCUTS)}, not {shortcut!r}")
        bottleneck, counts = stages(depth)
        expansion = 4 if bottleneck else 1
        self.activate = activation_named(activation)
        block = partial(Block, activate=self.activate, bottleneck=bottleneck, shortcut=shortcut)
        self.conv1 = conv(in_chans, width, 3)
        self.layer1, self.layer2, self.layer3, self.layer4 = four_stages(block, counts, width, expansion)
        self.bn = nn.BatchNorm2d(8 * width * expansion) if last_norm else None
        config = {"input_size": (3, 32, 32), "classifier": "head", "first_conv": "conv1", "pool_size": (4, 4)}
        self.finish(8 * width * expansion, num_classes, {"url": "", **config})

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """timm's description of the blocks: the stem, then one a block; the last norm is in the last block's."""
        return {"stem": r"^conv1\.", "blocks": [(r"^layer(\d+)\.(\d+)", None), (r"^bn\.", (99999,))]}

    def forward_features(self, x: Tensor) -> Tensor:
        """Last feature maps, ``(B, num_features, h, w)``."""
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.conv1(x)))))
        return x if self.bn is None else self.activate(self.bn(x))


__all__ = ["RicePreActResNet"]
NETWORKS = {"rice_preact_resnet": "pre-activation ResNet as Rice's and Wong's files name it"}
register("rice_preact_resnet", NETWORKS["rice_preact_resnet"], RicePreActResNet, __name__)
