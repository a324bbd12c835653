"""Families of checkpoints, a file each: importing this package registers them, in the order in which they are asked."""

from robust_transfer.foreign.families.base import FAMILIES, Architecture, Family, recognised

__all__ = ["FAMILIES", "Architecture", "Family", "recognised"]
