"""CIFAR networks in the field's standard forms, registered with timm; importing this package registers them."""

from robust_transfer.networks import resnet, wide_resnet
from robust_transfer.networks.names import available, canonical, create

__all__ = ["available", "canonical", "create", "resnet", "wide_resnet"]
