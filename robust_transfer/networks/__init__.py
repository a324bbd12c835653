"""CIFAR networks in the field's standard forms, registered with timm; importing this package registers them."""

from robust_transfer.networks import resnet, wide_resnet
from robust_transfer.networks.names import available, canonical, create, group_with_matcher

__all__ = ["available", "canonical", "create", "group_with_matcher", "resnet", "wide_resnet"]
