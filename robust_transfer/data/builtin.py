"""Data sets that come with the installed libraries: no download, no files."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from robust_transfer.data.encoded import ArrayImages
from robust_transfer.data.source import RawSplit, Source
from robust_transfer.errors import DataError
from robust_transfer.registry import unknown


def read_builtin(name: str) -> Source:
    """The data set ``builtin:name``; DataError for a name that does not exist."""
    if name not in BUILTIN:
        raise DataError(unknown("data set", f"builtin:{name}", [f"builtin:{known}" for known in BUILTIN]))
    return BUILTIN[name]()


def _digits() -> Source:
    """scikit-learn's 1,797 handwritten digits, 8x8, grey 0..16 (UCI Optical Recognition of Handwritten Digits)."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    names = tuple(str(name) for name in digits.target_names)
    train = RawSplit(ArrayImages(pixels), torch.from_numpy(digits.target).long(), names)
    return Source("builtin:digits", {"train": train}, test_fraction=1 / 3)


BUILTIN: dict[str, Callable[[], Source]] = {"digits": _digits}
