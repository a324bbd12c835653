"""safetensors files tensor by tensor: read, hashed and written with the memory of the largest tensor.

The library reads and writes whole files; here reading is one pass, whose bytes are hashed as they come. The format:
https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

# The library's names, in its order: a file begins with the last of those that it has, each sorted by name.
DTYPES: dict[str, torch.dtype] = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3": torch.float8_e4m3fn,
    "I16": torch.int16,
    "U16": torch.uint16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I32": torch.int32,
    "U32": torch.uint32,
    "F32": torch.float32,
    "C64": torch.complex64,
    "F64": torch.float64,
    "I64": torch.int64,
    "U64": torch.uint64,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
MAX_HEADER = 100_000_000  # bytes; the library's own limit
CHUNK_BYTES = 1 << 20


class DamagedError(ValueError):
    """Incomplete or damaged safetensors file; the message says how, in a few words."""


@dataclass(frozen=True)
class Entry:
    """Place of a tensor in a file: its bytes are those from ``start`` to ``end``."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """Entries of a file in the order of their bytes, without gaps, and its metadata."""

    entries: dict[str, Entry]
    metadata: dict[str, str]


def header_length(first: bytes, size: int) -> int:
    """Bytes of the header of a file of ``size`` bytes that begins with ``first``. Raises :class:`DamagedError`."""
    length = int.from_bytes(first[:8], "little")
    if len(first) < 8 or not 2 <= length <= min(size - 8, MAX_HEADER):
        raise DamagedError("it is cut off or has no header")
    return length


def parse_header(text: bytes, size: int) -> Header:
    """Header of a file of ``size`` bytes, checked: every tensor lies in it, and every byte belongs to one.

    Raises :class:`DamagedError`.
    """
    try:
        raw: dict[str, Any] = json.loads(text.decode("utf-8"), object_pairs_hook=_each_once)
        metadata = {str(key): str(value) for key, value in raw.pop("__metadata__", {}).items()}
        entries = {name: _entry(name, given, 8 + len(text)) for name, given in raw.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, MemoryError) as error:
        if isinstance(error, DamagedError):
            raise
        raise DamagedError(f"its header cannot be read: {type(error).__name__}") from None
    ordered = dict(sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)))
    reached = 8 + len(text)
    for name, entry in ordered.items():
        if entry.start != reached:
            raise DamagedError(f"{name!r} does not begin where the tensor before it ends")
        reached = entry.end
    if reached != size:
        raise DamagedError(f"it has {size:,} bytes, and its header declares {reached:,}")
    return Header(ordered, metadata)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON object without repeated names; readers differ in which of two equal names they take."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise DamagedError(f"its header names {next(n for n in names if names.count(n) > 1)!r} twice")
    return found


def _entry(name: str, given: dict[str, Any], first: int) -> Entry:
    if given["dtype"] not in DTYPES:
        raise DamagedError(f"{name!r} has the type {given['dtype']!r}, which is not read")
    dtype, shape, (start, end) = DTYPES[given["dtype"]], tuple(given["shape"]), given["data_offsets"]
    if any(type(number) is not int or number < 0 for number in (*shape, start, end)):
        raise DamagedError(f"{name!r} has an invalid shape or position")
    if end - start != math.prod(shape) * dtype.itemsize:
        raise DamagedError(f"{name!r} has {end - start:,} bytes, which does not match its shape and type")
    return Entry(dtype, shape, first + start, first + end)


class WeightsFile:
    """safetensors file, open for one pass from beginning to end; bytes are hashed as they are read.

    Raises ``OSError``. Use it in a ``with`` statement.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._size = os.fstat(self._file.fileno()).st_size
        self._digest, self._ahead = hashlib.sha256(), b""
        self.beginning = self._read(min(self._size, 64))

    def __enter__(self) -> WeightsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def header(self) -> Header:
        """Header; to be read once, before the tensors. Raises :class:`DamagedError`."""
        length = header_length(self.beginning, self._size)
        rest = self._read(max(8 + length - len(self.beginning), 0))
        text, self._ahead = (self.beginning + rest)[8 : 8 + length], (self.beginning + rest)[8 + length :]
        return parse_header(text, self._size)

    def tensors(self, header: Header) -> Iterator[tuple[str, Tensor]]:
        """Tensors in the order of the file, each with memory of its own. Raises :class:`DamagedError`."""
        for name, entry in header.entries.items():
            content = torch.empty(entry.end - entry.start, dtype=torch.uint8)
            self._fill(content.numpy().data)
            yield name, content.view(entry.dtype).view(entry.shape)

    def digest(self) -> str:
        """SHA-256 of the whole file in hexadecimal digits, however much of it was read before."""
        while self._read(CHUNK_BYTES):
            pass
        return self._digest.hexdigest()

    def _fill(self, target: memoryview) -> None:
        ahead = min(len(self._ahead), len(target))  # of a file shorter than its first read
        target[:ahead], self._ahead = self._ahead[:ahead], self._ahead[ahead:]
        while ahead < len(target):
            part = target[ahead : ahead + CHUNK_BYTES]  # hashed while it is in the processor's cache
            count = self._file.readinto(part)
            if not count:
                raise DamagedError("it became shorter while it was read")
            self._digest.update(part[:count])
            ahead += count

    def _read(self, count: int) -> bytes:
        content = bytearray()
        while len(content) < count and (more := self._file.read(count - len(content))):
            content += more
        self._digest.update(content)
        return bytes(content)


def write_weights(path: Path, state: Mapping[str, Tensor], dtype: torch.dtype) -> str:
    """Write tensors, floating point ones as ``dtype``; returns the file's SHA-256 in hexadecimal digits.

    The bytes equal the library's. Raises ``OSError``.
    """
    stored = {name: dtype if value.is_floating_point() else value.dtype for name, value in state.items()}
    rank = {each: index for index, each in enumerate(NAMES)}
    order = sorted(state, key=lambda name: (-rank[stored[name]], name))
    places, reached = dict[str, Any](), 0
    for name in order:
        end = reached + state[name].numel() * stored[name].itemsize
        places[name] = {"dtype": NAMES[stored[name]], "shape": list(state[name].shape), "data_offsets": [reached, end]}
        reached = end
    text = json.dumps(places, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for part in (len(text).to_bytes(8, "little"), text):
            file.write(part)
            digest.update(part)
        for name in order:
            content = raw_bytes(state[name].detach().to(stored[name]))
            for begin in range(0, len(content), CHUNK_BYTES):
                file.write(content[begin : begin + CHUNK_BYTES])
                digest.update(content[begin : begin + CHUNK_BYTES])
    return digest.hexdigest()


def raw_bytes(value: Tensor) -> memoryview:
    """Bytes of a tensor in the order of its shape; no copy where it lies like that on the CPU."""
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
