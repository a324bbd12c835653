"""Wide residual network in the layout of TRADES, which MART, AWP, HYDRA, LBGAT and dozens of others share.

The function is Zagoruyko & Komodakis 2016's; the names of its state are those of the public files (Zhang et al. 2019).
"""

from __future__ import annotations

from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from robust_transfer.networks.activations import Activate, activation_named
from robust_transfer.networks.base import PooledNetwork, conv
from robust_transfer.networks.names import register


class Unit(nn.Module):
    """Pre-activation unit; a 1x1 shortcut, where the number of channels changes, reads the activated input."""

    def __init__(self, inputs: int, outputs: int, stride: int, activate: Activate) -> None:
        super().__init__()
        self.activate = activate
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = conv(inputs, outputs, 3, stride)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = conv(outputs, outputs, 3)
        self.convShortcut = conv(inputs, outputs, 1, stride) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps to feature maps."""
        active = self.activate(self.bn1(x))
        carried = x if self.convShortcut is None else self.convShortcut(active)
        return carried + cast(Tensor, self.conv2(self.activate(self.bn2(self.conv1(active)))))


class Stage(nn.Module):
    """Units one after the other, under the name ``layer``; the first has the ``stride``."""

    def __init__(self, units: int, inputs: int, outputs: int, stride: int, activate: Activate) -> None:
        super().__init__()
        first = Unit(inputs, outputs, stride, activate)
        self.layer = nn.Sequential(first, *(Unit(outputs, outputs, 1, activate) for _ in range(units - 1)))

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps to feature maps."""
        return cast(Tensor, self.layer(x))


class TradesWideResNet(PooledNetwork):
    """WRN-``depth``-``width``: three stages of ``(depth - 4) / 6`` units with 16, 32, 64 times ``width`` channels.

    ``cosine``: the pooled features are divided by their norms, so that a head with rows of norm 1 and no bias gives
    cosines (Pang et al. 2020, "Boosting adversarial training with hypersphere embedding").
    """

    def __init__(
        self,
        *,
        depth: int = 34,
        width: int = 10,
        activation: str = "relu",
        cosine: bool = False,
        num_classes: int = 10,
        in_chans: int = 3,
    ) -> None:
        super().__init__()
        units = units_per_stage(depth)
        self.activate, self.cosine = activation_named(activation), cosine
        self.conv1 = conv(in_chans, 16, 3)
        self.block1 = Stage(units, 16, 16 * width, 1, self.activate)
        self.block2 = Stage(units, 16 * width, 32 * width, 2, self.activate)
        self.block3 = Stage(units, 32 * width, 64 * width, 2, self.activate)
        self.bn1 = nn.BatchNorm2d(64 * width)
        config = {"input_size": (3, 32, 32), "classifier": "head", "first_conv": "conv1", "pool_size": (8, 8)}
        self.finish(64 * width, num_classes, {"url": "", **config})

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """timm's description of the blocks: the stem, then one a unit; the last norm is in the last unit's."""
        return {"stem": r"^conv1\.", "blocks": [(r"^block(\d+)\.layer\.(\d+)", None), (r"^bn1\.", (99999,))]}

    def forward_features(self, x: Tensor) -> Tensor:
        """Last feature maps, ``(B, 64 * width, h, w)``."""
        return self.activate(self.bn1(self.block3(self.block2(self.block1(self.conv1(x))))))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits of feature maps, or with ``pre_logits`` the pooled features, of norm 1 with ``cosine``."""
        features = super().forward_head(x, pre_logits=True)
        features = F.normalize(features, dim=1) if self.cosine else features
        return features if pre_logits else cast(Tensor, self.head(features))


def units_per_stage(depth: int) -> int:
    """Units in each of a wide residual network's three stages; raises ValueError for a ``depth`` that is not 6n + 4."""
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"the depth of a wide residual network is 10, 16, 22, 28 ... (6n + 4), not {depth}")
    return (depth - 4) // 6


__all__ = ["TradesWideResNet", "units_per_stage"]
NETWORKS = {"trades_wrn": "wide residual network as TRADES's files name it: depth, width"}
register("trades_wrn", NETWORKS["trades_wrn"], TradesWideResNet, __name__)
