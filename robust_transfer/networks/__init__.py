"""CIFAR networks in the field's standard forms; timm knows them, too, once it is loaded by either side."""

import sys

from robust_transfer.networks import resnet, wide_resnet
from robust_transfer.networks.names import add_to_timm, available, canonical, create, group_with_matcher, normalisation

if "timm" in sys.modules:
    add_to_timm()

__all__ = [
    "add_to_timm",
    "available",
    "canonical",
    "create",
    "group_with_matcher",
    "normalisation",
    "resnet",
    "wide_resnet",
]
