"""Image folders: a folder a class, in the layouts of :mod:`robust_transfer.data.formats.class_folders`."""

from __future__ import annotations

from pathlib import Path

from robust_transfer.data.formats.base import FORMATS, ColumnNames, Format, StoredDataset
from robust_transfer.data.formats.class_folders import read_classes
from robust_transfer.data.formats.disk import Disk


@FORMATS.register("an image folder", summary="train/<class>/*.png, test/<class>/*.png, or just <class>/*.png", paper="")
class ImageFolder(Format):
    """Folders of image files, a folder a class; see :mod:`robust_transfer.data.formats.class_folders`."""

    def recognises(self, path: Path) -> bool:
        """True for any folder: what is in none of the layouts is refused by :meth:`read`."""
        return path.is_dir()

    def read(self, where: str, columns: ColumnNames) -> StoredDataset:
        """Data set under ``where``."""
        root = Path(where)
        return read_classes(Disk(), root, columns, root.resolve().name)
