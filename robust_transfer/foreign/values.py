"""Values of pickles while they are read: stand-ins that describe a value and hold data only."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

MAX_EXPANDED = 65_536  # elements; an expanded tensor (a mean per pixel) may exceed its storage up to this size
_DTYPES = (
    "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 uint16 uint32 uint64 bool complex64 complex128 "
    "float8_e4m3fn float8_e5m2"
)
TORCH_DTYPES: dict[str, torch.dtype] = {f"torch.{name}": getattr(torch, name) for name in _DTYPES.split()}
TORCH_DTYPES |= {f"torch.{old}": new for old, new in (("half", torch.float16), ("float", torch.float32))}
STORAGES: dict[str, torch.dtype] = {
    f"torch.{name}Storage": dtype
    for name, dtype in {
        "Double": torch.float64,
        "Float": torch.float32,
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
        "ComplexFloat": torch.complex64,
        "ComplexDouble": torch.complex128,
    }.items()
}
STORAGES |= {"torch.storage.UntypedStorage": torch.uint8}


class BrokenError(ValueError):
    """Contradictory or foreign file; the message says how, in a clause."""


@dataclass(eq=False)
class Global:
    """Name of a class or function, "module.name"."""

    name: str


@dataclass(eq=False)
class Made:
    """Object that its file would have constructed by calling ``name``; later modifications are kept."""

    name: str
    states: list[Any] = field(default_factory=list)
    items: list[tuple[Any, Any]] = field(default_factory=list)


@dataclass(eq=False)
class Several:
    """Set: its elements, which are never compared."""

    elements: list[Any] = field(default_factory=list)


@dataclass(eq=False)
class Storage:
    """Contiguous numbers. ``load(itemsize)`` gives their bytes, uint8; it raises :class:`BrokenError`."""

    dtype: torch.dtype
    count: int
    load: Callable[[int], Tensor]
    first: int = 0  # of the numbers, where it is a part of another storage


@dataclass(eq=False)
class View:
    """Tensor: a part of a storage, its shape and strides."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype

    def tensor(self) -> Tensor:
        """Tensor that shares the storage's memory. Raises :class:`BrokenError` for one that exceeds it."""
        size, held = self.dtype.itemsize, self.storage.count * self.storage.dtype.itemsize
        count, first = math.prod(self.shape), self.storage.first * self.storage.dtype.itemsize
        reach = sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True)) if count else -1
        if count and (self.offset + reach + 1) * size > held:
            raise BrokenError(f"a tensor of shape {self.shape} reaches beyond the {held:,} bytes of its storage")
        apart = math.prod(n for n, stride in zip(self.shape, self.strides, strict=True) if stride)
        if count > held // size and (count > MAX_EXPANDED or apart > held // size):
            raise BrokenError(f"a tensor of shape {self.shape} has more elements than its storage of {held:,} bytes")
        if not count:
            return torch.empty(self.shape, dtype=self.dtype)
        content = self.storage.load(size)
        if first + held > len(content):
            raise BrokenError(f"a storage has {len(content):,} bytes, and its tensor declares {first + held:,}")
        content = content[first : first + held // size * size]
        if content.data_ptr() % size:
            content = content.clone()
        return content.view(self.dtype).as_strided(self.shape, self.strides, self.offset)


def view(storage: Any, offset: Any, shape: Any, strides: Any, dtype: torch.dtype | None = None) -> View:
    """Tensor as PyTorch's pickles describe it. Raises :class:`BrokenError` for anything else."""
    if not isinstance(storage, Storage):
        raise BrokenError("a tensor has no storage")
    shape, strides = natural(shape), natural(strides)
    if len(shape) != len(strides) or len(shape) > 16:
        raise BrokenError(f"a tensor has {len(shape)} dimensions and {len(strides)} strides")
    return View(storage, natural((offset,))[0], shape, strides, dtype or storage.dtype)


def natural(numbers: Any) -> tuple[int, ...]:
    """Integers from 0 to 2^62. Raises :class:`BrokenError` for anything else."""
    if not isinstance(numbers, (tuple, list)):
        raise BrokenError("a tensor has no shape")
    if any(type(n) is not int or not 0 <= n < 2**62 for n in numbers) or len(numbers) > 64:
        raise BrokenError("a tensor has a shape, a stride or an offset that is negative, huge or no integer")
    return tuple(numbers)


@dataclass(eq=False)
class DType:
    """NumPy's dtype: its code ("f4") and order of bytes; ``plain`` where it is one number or text."""

    code: str
    order: str = "="
    plain: bool = True

    def build(self, state: Any) -> None:
        """Effect of NumPy's ``__setstate__``: (version, order, subdtype, names, fields, size, alignment, flags)."""
        if not isinstance(state, tuple) or len(state) < 6 or state[1] not in ("<", ">", "=", "|"):
            self.plain = False
            return
        self.order = state[1]
        self.plain = self.plain and all(part is None for part in state[2:5])

    def numpy(self) -> np.dtype[Any] | None:
        """dtype of NumPy; None for one that is not plain (objects, records)."""
        found = re.fullmatch(r"([<>=|]?)([biufcSU])(\d{1,5})", self.code)
        if not self.plain or found is None:
            return None
        try:
            return np.dtype(f"{found[1] if found[1] in ('<', '>') else self.order}{found[2]}{found[3]}")
        except TypeError:
            return None


@dataclass(eq=False)
class Array:
    """NumPy's array as its pickle describes it."""

    shape: Any = (0,)
    dtype: Any = None
    order: str = "C"
    raw: Any = b""

    def build(self, state: Any) -> None:
        """Effect of NumPy's ``__setstate__``: (version, shape, dtype, in Fortran's order, bytes)."""
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise BrokenError("a NumPy array has no state")
        self.shape, self.dtype, fortran, self.raw = state[-4:]
        self.order = "F" if fortran else "C"

    def numpy(self) -> np.ndarray[Any, Any] | None:
        """Array, a view of the file's bytes; None for one of objects or records. Raises :class:`BrokenError`."""
        dtype = self.dtype.numpy() if isinstance(self.dtype, DType) else None
        if dtype is None:
            return None
        shape, raw = natural(self.shape), raw_of(self.raw)
        if len(raw) != math.prod(shape) * dtype.itemsize:
            raise BrokenError(f"a NumPy array of shape {shape} and type {dtype} has {len(raw):,} bytes")
        return np.frombuffer(raw, dtype).reshape(shape, order="F" if self.order == "F" else "C")


def raw_of(given: Any) -> bytes | memoryview:
    """Bytes, or those behind Python 2's text."""
    if isinstance(given, str):
        return given.encode("latin-1")
    if not isinstance(given, (bytes, memoryview)):
        raise BrokenError("a NumPy array or number has no bytes")
    return given


def from_numpy(array: np.ndarray[Any, Any]) -> Any:
    """Tensor of an array, sharing its memory if that is writable; text as str or a list; None for anything else."""
    if array.dtype.kind in "SU":
        try:
            return _text(array.tolist())
        except (ValueError, OverflowError):  # numbers that are no characters
            return None
    if array.dtype.kind not in "biufc" or array.dtype.itemsize > (16 if array.dtype.kind == "c" else 8):
        return None
    array = array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    usual = array.flags.writeable and array.flags.aligned and min(array.strides, default=0) >= 0
    return torch.from_numpy(array if usual else array.copy())


def _text(value: Any) -> Any:
    if isinstance(value, list):
        return [_text(each) for each in value]
    return value.decode("latin-1") if isinstance(value, bytes) else value
