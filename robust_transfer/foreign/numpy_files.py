"""NumPy's ``.npy`` and ``.npz``: arrays, as views of the file if uncompressed; arrays of objects stay inert.

The layout: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
"""

from __future__ import annotations

import io
import tokenize
from typing import Any

import numpy as np
from numpy.lib import format as layout
from torch import Tensor

from robust_transfer.foreign.archives import Archive
from robust_transfer.foreign.contents import Inert
from robust_transfer.foreign.values import BrokenError, from_numpy, natural

MAGIC = b"\x93NUMPY"


def read_npz(archive: Archive) -> dict[str, Any]:
    """Arrays by name. Raises :class:`BrokenError`."""
    return {name.removesuffix(".npy"): read_npy(archive.tensor(name, 8)) for name in archive.members}


def read_npy(content: Tensor) -> Any:
    """Array of the bytes of an ``.npy`` file, uint8. Raises :class:`BrokenError`."""
    raw = content.numpy()
    file = io.BytesIO(raw[: min(len(raw), 1 << 16)].tobytes())
    try:
        version = layout.read_magic(file)
        read = layout.read_array_header_1_0 if version == (1, 0) else layout.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, tokenize.TokenError) as error:
        raise BrokenError(
            f"an array's header cannot be read: {(str(error).splitlines() or ['it is empty'])[0][:100]}"
        ) from None
    if dtype.hasobject or dtype.kind not in "biufcSU":
        return Inert("numpy.ndarray")
    data, count = raw[file.tell() :], int(np.prod([1, *natural(shape)], dtype=object))
    if len(data) < count * dtype.itemsize:
        raise BrokenError(f"it is cut off: an array of shape {shape} has {len(data):,} bytes")
    array = (
        np.frombuffer(data, dtype, count).reshape(shape, order="F" if fortran else "C")
        if count
        else np.empty(shape, dtype)
    )
    found = from_numpy(array)
    return Inert("numpy.ndarray") if found is None else found
