"""Wide residual networks in the layout of TRADES: MART, AWP, HYDRA, LBGAT, RST and half of RobustBench's CIFAR models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from robust_transfer.foreign.families.base import FAMILIES, Architecture, Family, State
from robust_transfer.foreign.families.fitting import broken, counts, fitted, last_layer, size
from robust_transfer.foreign.families.normalisations import PER_IMAGE, on_size, preprocessings

LAYOUT = "TRADES's wide residual networks"
UNIT = re.compile(r"block\d+\.layer\.\d+\.(bn|conv)")
UNUSED = "sub_block1."  # a fourth stage, which the authors' code makes and never calls


@FAMILIES.register(
    "trades-wrn", summary="wide residual networks as TRADES names them", paper="Zhang et al. 2019; Zagoruyko 2016"
)
class TradesWideResNetFamily(Family):
    """States with ``block1.layer.0.bn1`` and the like.

    A head without a bias may belong to a network of hypersphere embeddings (Pang et al. 2020), whose forward pass makes
    features and rows of the head unit vectors; nothing in the file tells, hence the variant ``cosine``.
    """

    def recognise(self, state: State) -> Architecture | None:
        """WRN of depth 6n + 4 for n units a stage; None without ``block1.layer.0.bn1`` or the like."""
        if not any(UNIT.match(key) for key in state):
            return None
        units = counts(state, [f"block{stage}.layer." for stage in (1, 2, 3)], LAYOUT)
        width, depth, inferred = wide(units, size(state, "block1.layer.0.conv1.weight", 0, LAYOUT), "block1", LAYOUT)
        head, classes, of_classes = last_layer(state, ("fc", "linear"), LAYOUT)
        variants: dict[str, tuple[Any, ...]] = {"activation": ("relu", "silu")}
        if head and f"{head}.bias" not in state:
            variants["cosine"] = (True, False)
        found = Architecture(
            network="trades_wrn",
            settings={"depth": depth, "width": width},
            num_classes=classes,
            head=head,
            inferred=(*inferred, of_classes, on_size(classes)),
            variants=variants,
            unused=tuple(key for key in state if key.startswith(UNUSED)),
            preprocessings=preprocessings(classes, raw_first=True, more=(PER_IMAGE,)),
        )
        return fitted(state, found, LAYOUT)

    def head(self, state: State, found: Architecture, settings: Mapping[str, Any]) -> tuple[Tensor, Tensor] | None:
        """Last layer; with the setting ``cosine``, its rows have norm 1."""
        layer = super().head(state, found, settings)
        if layer is None or not settings.get("cosine"):
            return layer
        return F.normalize(layer[0], dim=1), layer[1]


def wide(units: tuple[int, ...], channels: int, first: str, layout: str) -> tuple[int, int, tuple[str, str]]:
    """Width and depth of a wide residual network with so many ``units`` a stage and ``channels`` in the first."""
    if len(set(units)) != 1:
        raise broken(layout, f"its stages have {' and '.join(map(str, units))} units, where all have the same number")
    if channels % 16:
        raise broken(layout, f"{first} has {channels} channels, which is no multiple of 16")
    width, depth = channels // 16, 6 * units[0] + 4
    many = f"{units[0]} unit{'s' if units[0] > 1 else ''}"
    return width, depth, (f"depth {depth}: {many} in each stage", f"width {width}: {first} has {channels} channels")
