"""``builtin:NAME``: data sets that come with the installed libraries. No download, no files."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from robust_transfer.data.encoded import ArrayImages
from robust_transfer.data.formats.base import FORMATS, ColumnNames, Format, StoredDataset, StoredSplit
from robust_transfer.errors import DataError
from robust_transfer.registry import unknown


@FORMATS.register(
    "builtin:NAME", summary="builtin:digits, scikit-learn's 1,797 handwritten digits, 8x8; needs no download", paper=""
)
class Builtin(Format):
    """Data sets that come with the installed libraries."""

    prefix: ClassVar[str | None] = "builtin"

    def names(self) -> list[str]:
        """Names of all built-in data sets."""
        return [f"builtin:{name}" for name in BUILTIN]

    def read(self, where: str, columns: ColumnNames) -> StoredDataset:
        """Data set ``builtin:where``; DataError for a name that does not exist."""
        columns.refuse(f"builtin:{where}")
        if where not in BUILTIN:
            raise DataError(unknown("data set", f"builtin:{where}", self.names()))
        return BUILTIN[where]()


def _digits() -> StoredDataset:
    """scikit-learn's 1,797 handwritten digits, 8x8, grey 0..16 (UCI Optical Recognition of Handwritten Digits)."""
    table = _digits_table()
    pixels = np.rint(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    labels = torch.from_numpy(table[:, -1].astype(np.int64))
    train = StoredSplit(ArrayImages(pixels), labels, tuple(str(digit) for digit in range(10)))
    return StoredDataset("builtin:digits", {"train": train}, test_fraction=1 / 3)


def _digits_table() -> NDArray[np.float64]:
    """``(1797, 65)``: 64 grey values and the digit, from scikit-learn's own file: importing it takes a second."""
    package = find_spec("sklearn")
    folders = package.submodule_search_locations if package is not None else None
    file = Path(folders[0], "datasets", "data", "digits.csv.gz") if folders else None
    if file is not None and file.is_file():
        return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits  # another version may keep the file elsewhere

    digits = load_digits()
    return np.column_stack([digits.data, digits.target])


BUILTIN: dict[str, Callable[[], StoredDataset]] = {"digits": _digits}
