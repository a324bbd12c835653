"""CIFAR networks in the field's standard forms, registered with timm once timm is loaded."""

import sys

from robust_transfer.networks import (
    convstem,
    dm_preact_resnet,
    dm_wide_resnet,
    kuangliu_resnet,
    mirrored,
    pair,
    pool_grid,
    resnet,
    rice_preact_resnet,
    trades_wide_resnet,
    wide_resnet,
    xcit,
)
from robust_transfer.networks.builders import HEAD as HEAD_LAYER
from robust_transfer.networks.builders import builder, mark_of, register_builder
from robust_transfer.networks.names import (
    add_to_timm,
    available,
    canonical,
    create,
    group_with_matcher,
    normalisation,
    takes_image_size,
)

if "timm" in sys.modules:
    add_to_timm()

__all__ = [
    "HEAD_LAYER",
    "add_to_timm",
    "available",
    "builder",
    "canonical",
    "convstem",
    "create",
    "dm_preact_resnet",
    "dm_wide_resnet",
    "group_with_matcher",
    "kuangliu_resnet",
    "mark_of",
    "mirrored",
    "normalisation",
    "pair",
    "pool_grid",
    "register_builder",
    "resnet",
    "rice_preact_resnet",
    "takes_image_size",
    "trades_wide_resnet",
    "wide_resnet",
    "xcit",
]
