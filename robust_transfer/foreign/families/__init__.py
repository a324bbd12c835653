"""Families of checkpoints, a file each: importing this package registers them, in the order in which they are asked."""

from robust_transfer.foreign.families import (
    clip_visual,
    convstem,
    dm_preact_resnet,
    dm_wide_resnet,
    kuangliu_resnet,
    rice_preact_resnet,
    trades_wide_resnet,
    xcit,
)

from robust_transfer.foreign.families import torchvision_named  # isort: skip # before timm, which knows its names, too
from robust_transfer.foreign.families import timm_named  # isort: skip # last: it compares with a thousand networks
from robust_transfer.foreign.families.base import FAMILIES, Architecture, Family, recognised

__all__ = [
    "FAMILIES",
    "Architecture",
    "Family",
    "clip_visual",
    "convstem",
    "dm_preact_resnet",
    "dm_wide_resnet",
    "kuangliu_resnet",
    "recognised",
    "rice_preact_resnet",
    "timm_named",
    "torchvision_named",
    "trades_wide_resnet",
    "xcit",
]
