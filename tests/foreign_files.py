"""Pickles as nobody should write them: opcode by opcode, and objects that do harm when they are loaded by ``pickle``."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch


class Calls:
    """Object whose pickle calls ``module.name(*args)``, whether there is such a function here or not."""

    def __init__(self, name: str, *args: Any) -> None:
        self.name, self.args = name, args


def text(value: str) -> bytes:
    content = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(content)) + content


def push(value: Any) -> bytes:
    """Instructions that leave ``value`` on the stack; :class:`Calls` may stand anywhere in it."""
    if isinstance(value, Calls):
        module, _, name = value.name.rpartition(".")
        return b"c" + f"{module}\n{name}\n".encode() + push(value.args) + b"R"
    if isinstance(value, tuple):
        return b"(" + b"".join(push(each) for each in value) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(push(each) for each in value) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(push(key) + push(each) for key, each in value.items()) + b"u"
    if isinstance(value, str):
        return text(value)
    return pickle.dumps(value, 2)[2:-1]


def whole(*instructions: bytes) -> bytes:
    return b"\x80\x02" + b"".join(instructions) + b"."


def storage(key: str, count: int, kind: str = "FloatStorage") -> bytes:
    return b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + push(count) + b"tQ"


def tensor(place: bytes, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    """Instructions for a tensor whose storage is on the stack after ``place``."""
    last = b"\x89ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + place + push(offset) + push(shape) + push(strides) + last + b"tR"


def write_zip(path: Path, content: bytes, **data: bytes) -> Path:
    """A PyTorch zip with this pickle and these storages."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3\n")
        for key, value in data.items():
            archive.writestr(f"archive/data/{key.removeprefix('_')}", value)
    return path


def saved(value: Any, **how: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **how)
    return file.getvalue()
