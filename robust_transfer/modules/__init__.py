"""Modules of any kind as networks: their last linear layer, their blocks, the order in which they compute."""

from robust_transfer.modules.blocks import blocks_of, calls_of, is_norm
from robust_transfer.modules.groups import groups_of
from robust_transfer.modules.last_linear import split, unwrapped

__all__ = ["blocks_of", "calls_of", "groups_of", "is_norm", "split", "unwrapped"]
