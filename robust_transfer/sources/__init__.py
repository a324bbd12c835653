"""Sources, a file a kind: importing this package registers them, in the order in which they are asked."""

from robust_transfer.sources import packaged, robustbench, timm_named, torchvision_named, hub, address, file, folder  # isort: skip (the order in which they are asked)
from robust_transfer.sources.base import SOURCES, SourceKind, list_sources, load_source
from robust_transfer.sources.packaged import BUNDLED, NATURAL, PACKAGED

__all__ = [
    "BUNDLED",
    "NATURAL",
    "PACKAGED",
    "SOURCES",
    "SourceKind",
    "address",
    "file",
    "folder",
    "hub",
    "list_sources",
    "load_source",
    "packaged",
    "robustbench",
    "timm_named",
    "torchvision_named",
]
