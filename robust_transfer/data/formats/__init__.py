"""Data formats, one file each: importing this package registers them, in the order in which they are tried."""

from robust_transfer.data.formats import builtin, hub, archive, parquet, image_table, image_folder  # isort: skip (the order they are tried in)
from robust_transfer.data.formats.base import FORMATS, ColumnNames, Format, Role, StoredDataset, StoredSplit
from robust_transfer.data.formats.opening import open_dataset

__all__ = [
    "FORMATS",
    "ColumnNames",
    "Format",
    "Role",
    "StoredDataset",
    "StoredSplit",
    "archive",
    "builtin",
    "hub",
    "image_folder",
    "image_table",
    "open_dataset",
    "parquet",
]
