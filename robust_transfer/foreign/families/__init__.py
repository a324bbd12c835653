"""Families of checkpoints, a file each: importing this package registers them, in the order in which they are asked."""

from robust_transfer.foreign.families import (
    dm_preact_resnet,
    dm_wide_resnet,
    kuangliu_resnet,
    rice_preact_resnet,
    trades_wide_resnet,
)
from robust_transfer.foreign.families.base import FAMILIES, Architecture, Family, recognised

__all__ = [
    "FAMILIES",
    "Architecture",
    "Family",
    "dm_preact_resnet",
    "dm_wide_resnet",
    "kuangliu_resnet",
    "recognised",
    "rice_preact_resnet",
    "trades_wide_resnet",
]
