"""``builtin:NAME``: data sets that come with the installed libraries. No download, no files."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch

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
        """All of them."""
        return [f"builtin:{name}" for name in BUILTIN]

    def read(self, where: str, columns: ColumnNames) -> StoredDataset:
        """Data set ``builtin:where``; DataError for a name that does not exist."""
        columns.refuse(f"builtin:{where}")
        if where not in BUILTIN:
            raise DataError(unknown("data set", f"builtin:{where}", self.names()))
        return BUILTIN[where]()


def _digits() -> StoredDataset:
    """scikit-learn's 1,797 handwritten digits, 8x8, grey 0..16 (UCI Optical Recognition of Handwritten Digits)."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    names = tuple(str(name) for name in digits.target_names)
    train = StoredSplit(ArrayImages(pixels), torch.from_numpy(digits.target).long(), names)
    return StoredDataset("builtin:digits", {"train": train}, test_fraction=1 / 3)


BUILTIN: dict[str, Callable[[], StoredDataset]] = {"digits": _digits}
