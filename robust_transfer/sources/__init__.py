"""Sources, one file per kind: importing this package registers them, in the order of recognition."""

# isort: off
from robust_transfer.sources import packaged
from robust_transfer.sources import fitting
from robust_transfer.sources import robustbench
from robust_transfer.sources import timm_named
from robust_transfer.sources import torchvision_named
from robust_transfer.sources import hub
from robust_transfer.sources import address
from robust_transfer.sources import file
from robust_transfer.sources import folder

# isort: on
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
