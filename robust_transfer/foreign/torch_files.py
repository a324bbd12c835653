"""PyTorch's two formats: zip archives (since 1.6), and a pickle with the storages behind it (before).

The layouts are those of ``torch/serialization.py``: ``_save`` and ``_legacy_save``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from robust_transfer.foreign.archives import Archive
from robust_transfer.foreign.bytes_of import Bytes
from robust_transfer.foreign.pickles import Machine
from robust_transfer.foreign.rebuilding import known
from robust_transfer.foreign.values import STORAGES, BrokenError, Global, Made, Storage

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
MOST_PICKLE = 1 << 28  # bytes of a pickle that is compressed


def _storage_of(identity: Any) -> tuple[str, torch.dtype | None, int, Any]:
    """Key, type, count and view of a storage's persistent id; :class:`BrokenError` for any other id."""
    if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
        raise BrokenError("its pickle refers to something outside of it that is no storage of PyTorch")
    kind, key, _, count = identity[1:5]
    if not isinstance(kind, Global) or not isinstance(key, (str, int)) or type(count) is not int:
        raise BrokenError("its pickle refers to an invalid storage")
    if not 0 <= count < 2**60:
        raise BrokenError(f"its pickle declares a storage of {count:,} numbers")
    return str(key), STORAGES.get(known(kind.name)), count, identity[5] if len(identity) > 5 else None


def read_zip(archive: Archive, machine: Machine) -> Any:
    """Value of the pickle of a PyTorch zip file, its storages left in the file. Raises :class:`BrokenError`."""
    (name,) = (name for name in archive.members if name.split("/")[1:] == ["data.pkl"] or name == "data.pkl")
    folder = name.removesuffix("data.pkl")
    if folder + "byteorder" in archive.members and bytes(archive.bytes_of(folder + "byteorder").view[:3]) == b"big":
        raise BrokenError("it was written by a big-endian machine; save it on one like this")
    if archive.members[name].file_size > MOST_PICKLE:
        raise BrokenError("its pickle is larger than weights need")
    loaded = dict[str, Tensor]()

    def persistent(identity: Any) -> Any:
        key, dtype, count, _ = _storage_of(identity)
        if dtype is None:
            return Made(identity[1].name)

        def load(itemsize: int) -> Tensor:
            if key not in loaded:
                loaded[key] = archive.tensor(f"{folder}data/{key}", itemsize)
            return loaded[key]

        return Storage(dtype, count, load)

    machine.persistent = persistent
    return machine.load(archive.bytes_of(name))


def read_legacy(source: Bytes, machine: Machine) -> Any:
    """Value of a PyTorch file from before version 1.6, behind its magic number. Raises :class:`BrokenError`.

    It is five pickles (magic number, protocol, the machine that wrote it, the value, the keys of the storages), then
    for each storage its length in numbers, 8 bytes, and these.
    """
    storages, loaded = dict[str, Storage](), dict[str, tuple[int, int]]()

    def load_from(key: str, count: int, itemsize: int) -> Tensor:
        if key not in loaded:
            raise BrokenError(f"its storage {key[:100]!r} is missing")
        start, length = loaded[key]
        return source.tensor(start, length, itemsize)

    def persistent(identity: Any) -> Any:
        key, dtype, count, part = _storage_of(identity)
        if dtype is None:
            return Made(identity[1].name)
        whole = storages.get(key)
        if whole is None:
            cache = list[Tensor]()

            def load(itemsize: int) -> Tensor:
                if not cache:
                    cache.append(load_from(key, count, itemsize))
                return cache[0]

            whole = storages[key] = Storage(dtype, count, load)
        if (whole.dtype, whole.count) != (dtype, count):
            raise BrokenError(f"it says two things of its storage {key[:100]!r}")
        if not isinstance(part, tuple) or len(part) != 3:
            return whole
        first, length = part[1:]
        if type(first) is not int or type(length) is not int or not 0 <= first <= first + length <= count:
            raise BrokenError(f"a part of its storage {key[:100]!r} does not lie in it")
        return Storage(dtype, length, whole.load, first)

    protocol, system = machine.load(source), machine.load(source)
    if protocol != PROTOCOL or not isinstance(system, dict):
        raise BrokenError(f"it has the protocol {str(protocol)[:50]} of PyTorch, which is not read")
    if system.get("little_endian") is False:
        raise BrokenError("it was written by a big-endian machine; save it on one like this")
    machine.persistent = persistent
    value = machine.load(source)
    machine.persistent = None
    keys = machine.load(source)
    if not isinstance(keys, list):
        raise BrokenError("it has no list of its storages")
    for key in keys:
        storage = storages.get(str(key)) if isinstance(key, (str, int)) else None
        if storage is None:
            raise BrokenError("it lists a storage that no tensor has")
        stated = source.read(8)
        count = int.from_bytes(stated, "little", signed=True)
        length = storage.count * storage.dtype.itemsize
        if len(stated) < 8 or source.at + length > len(source):
            raise BrokenError("it is cut off: its download was interrupted, or its disk was full")
        if count != storage.count:
            raise BrokenError(f"a storage has {count:,} numbers, and its tensor declares {storage.count:,}")
        loaded[str(key)] = (source.at, length)
        source.at += length
    return value


def read_nested(content: Any, outer: Machine, whole: Bytes) -> Any:
    """Storage in separate bytes, the form in which ``pickle.dump`` stores tensors (``torch.storage._load_from_bytes``)."""
    if not isinstance(content, (bytes, memoryview)):
        raise BrokenError("a storage has no bytes")
    source = Bytes(content, whole)
    inner = outer.within()
    if inner.load(source) != MAGIC:
        raise BrokenError("a storage in it is in no format of PyTorch that is read")
    value = read_legacy(source, inner)
    outer.after(inner)
    return value
