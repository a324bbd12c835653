"""Stand-ins for other projects' interfaces."""

from robust_transfer.drop_in.autoattack import AutoAttack

__all__ = ["AutoAttack"]
