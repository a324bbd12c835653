"""Tables of image files: a file of its own, or beside the images in a folder (HF's ``metadata.csv``)."""

from __future__ import annotations

from pathlib import Path

from robust_transfer.data.formats.base import FORMATS, ColumnNames, Format, StoredDataset
from robust_transfer.data.formats.disk import Disk
from robust_transfer.data.formats.path_tables import holds_tables, kind_of, read_tables
from robust_transfer.data.formats.split_files import alone, find_files
from robust_transfer.data.formats.table_cells import is_text_table


@FORMATS.register(
    "a table of image files",
    summary="CSV, TSV, JSON lines or parquet: a column of paths, one of labels, perhaps one of splits; metadata.csv",
    paper="",
)
class ImageTable(Format):
    """CSV, TSV and JSON lines with paths and labels: one file, or such files in a folder whose images are in no classes."""

    def recognises(self, path: Path) -> bool:
        """True for such a file, and for a folder that holds some and is no image folder."""
        return is_text_table(path) if path.is_file() else holds_tables(Disk(), path)

    def read(self, where: str, columns: ColumnNames) -> StoredDataset:
        """Data set of the table or folder ``where``."""
        root, disk = Path(where), Disk()
        if root.is_file():
            return read_tables(disk, alone(disk, root, kind_of(disk)), columns, root.resolve().stem)
        return read_tables(disk, find_files(disk, root, kind_of(disk)), columns, root.resolve().name)
