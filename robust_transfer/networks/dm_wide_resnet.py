"""Wide residual network in the layout of DeepMind's files (Gowal et al. 2020; Rebuffi et al. 2021), and of many later ones.

Differences beside the names: Swish, and one-sided padding before strided convolutions. Neither is in the file.
"""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from robust_transfer.networks.activations import Activate, activation_named
from robust_transfer.networks.base import PooledNetwork, conv
from robust_transfer.networks.mean_sparse import MeanSparse
from robust_transfer.networks.names import register
from robust_transfer.networks.padding import padded_conv
from robust_transfer.networks.trades_wide_resnet import units_per_stage


class Unit(nn.Module):
    """Pre-activation unit; a 1x1 shortcut, where the number of channels changes, reads the activated input.

    With ``mean_sparse``, :class:`MeanSparse` follows both norms and the sum.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, activate: Activate, padding: str, mean_sparse: bool
    ) -> None:
        super().__init__()
        self.activate = activate
        self.batchnorm_0 = nn.BatchNorm2d(inputs)
        self.meansparse_0 = _sparse(inputs, mean_sparse)
        self.conv_0 = padded_conv(inputs, outputs, stride, padding)
        self.batchnorm_1 = nn.BatchNorm2d(outputs)
        self.meansparse_1 = _sparse(outputs, mean_sparse)
        self.conv_1 = conv(outputs, outputs, 3)
        self.shortcut = conv(inputs, outputs, 1, stride) if inputs != outputs else None
        self.meansparse_2 = _sparse(outputs, mean_sparse)

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps to feature maps."""
        active = self.activate(self.meansparse_0(self.batchnorm_0(x)))
        carried = x if self.shortcut is None else self.shortcut(active)
        inner = self.activate(self.meansparse_1(self.batchnorm_1(self.conv_0(active))))
        return cast(Tensor, self.meansparse_2(carried + self.conv_1(inner)))


class Stage(nn.Module):
    """Units one after the other, under the name ``block``; the first has the ``stride``."""

    def __init__(self, units: int, inputs: int, outputs: int, stride: int, *how: Any) -> None:
        super().__init__()
        first = Unit(inputs, outputs, stride, *how)
        self.block = nn.Sequential(first, *(Unit(outputs, outputs, 1, *how) for _ in range(units - 1)))

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps to feature maps."""
        return cast(Tensor, self.block(x))


class DMWideResNet(PooledNetwork):
    """WRN-``depth``-``width``: three stages of ``(depth - 4) / 6`` units with 16, 32, 64 times ``width`` channels.

    Images have sides of a multiple of 4 pixels: at others the two paths of a unit with a stride do not fit one another.
    """

    def __init__(
        self,
        *,
        depth: int = 28,
        width: int = 10,
        activation: str = "silu",
        padding: str = "asymmetric",
        mean_sparse: bool = False,
        num_classes: int = 10,
        in_chans: int = 3,
    ) -> None:
        super().__init__()
        units = units_per_stage(depth)
        self.activate, self.padding = activation_named(activation), padding
        how = (self.activate, padding, mean_sparse)
        self.init_conv = conv(in_chans, 16, 3)
        self.layer = nn.Sequential(
            Stage(units, 16, 16 * width, 1, *how),
            Stage(units, 16 * width, 32 * width, 2, *how),
            Stage(units, 32 * width, 64 * width, 2, *how),
        )
        self.batchnorm = nn.BatchNorm2d(64 * width)
        self.meansparse_end = _sparse(64 * width, mean_sparse)
        config = {"input_size": (3, 32, 32), "classifier": "head", "first_conv": "init_conv", "pool_size": (8, 8)}
        self.finish(64 * width, num_classes, {"url": "", **config})

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """timm's description of the blocks: the stem, then one a unit; the last norm is in the last unit's."""
        last = (r"^batchnorm\.|^meansparse_end\.", (99999,))
        return {"stem": r"^init_conv\.", "blocks": [(r"^layer\.(\d+)\.block\.(\d+)", None), last]}

    def forward_features(self, x: Tensor) -> Tensor:
        """Last feature maps, ``(B, 64 * width, h, w)``; raises ValueError for images that do not fit the padding."""
        if self.padding == "asymmetric" and any(side % 4 for side in x.shape[-2:]):
            raise ValueError(f"images must have sides of a multiple of 4 pixels, not {tuple(x.shape[-2:])}")
        return self.activate(self.meansparse_end(self.batchnorm(self.layer(self.init_conv(x)))))


def _sparse(channels: int, mean_sparse: bool) -> nn.Module:
    return MeanSparse(channels) if mean_sparse else nn.Identity()


__all__ = ["DMWideResNet"]
NETWORKS = {"dm_wrn": "wide residual network as DeepMind's files name it: Swish, one-sided padding"}
register("dm_wrn", NETWORKS["dm_wrn"], DMWideResNet, __name__)
