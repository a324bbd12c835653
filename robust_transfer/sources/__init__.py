"""Sources, a file a kind: importing this package registers them, in the order in which they are asked."""

from robust_transfer.sources import (
    address,
    file,
    fitting,
    folder,
    hub,
    packaged,
    robustbench,
    timm_named,
    torchvision_named,
)  # isort: skip (the order in which they are asked)
from robust_transfer.sources.base import SOURCES, SourceKind, list_sources, load_source
from robust_transfer.sources.packaged import BUNDLED, BUNDLED_64, NATURAL, PACKAGED

__all__ = [
    "BUNDLED",
    "BUNDLED_64",
    "NATURAL",
    "PACKAGED",
    "SOURCES",
    "SourceKind",
    "address",
    "file",
    "fitting",
    "folder",
    "hub",
    "list_sources",
    "load_source",
    "packaged",
    "robustbench",
    "timm_named",
    "torchvision_named",
]
