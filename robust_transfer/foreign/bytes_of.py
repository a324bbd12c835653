"""Bytes of a file, mapped into memory: read on access, never written back."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robust_transfer.errors import CheckpointError

AT_ONCE = 4096  # longer reads are views, not copies


class Bytes:
    """Memory-mapped bytes as a binary file, and as tensors at any offset.

    Long reads return views: a tensor made from one needs no memory of its own.
    """

    def __init__(self, content: mmap.mmap | bytes | memoryview, whole: Bytes | None = None) -> None:
        self.view, self.at, self._last = memoryview(content), 0, b""
        self.mapping = content if isinstance(content, mmap.mmap) else None
        self._first = 0  # of the mapping
        if whole is not None and whole.mapping is not None and not self.view.readonly:
            self.mapping, self._first = whole.mapping, _address(self.view) - _address(memoryview(whole.mapping))

    def __len__(self) -> int:
        return len(self.view)

    def read(self, count: int) -> bytes | memoryview:
        """The next bytes, fewer at the end."""
        content = self.view[self.at : self.at + count]
        self.at += len(content)
        # the text of Python 2 (the code T) is decoded by a method that bytes have
        if count >= AT_ONCE and self._last != b"T":
            return content
        if count == 1:
            self._last = bytes(content)
            return self._last
        return bytes(content)

    def readline(self) -> bytes:
        """The next line, with its end."""
        start, line = self.at, bytearray()
        while self.at < len(self.view):
            part = bytes(self.view[self.at : self.at + 256])
            end = part.find(b"\n") + 1
            line += part[: end or len(part)]
            self.at = start + len(line)
            if end:
                break
        return bytes(line)

    def tell(self) -> int:
        """Position."""
        return self.at

    def tensor(self, start: int, count: int, itemsize: int) -> Tensor:
        """uint8 tensor ``(count,)`` of the bytes from ``start``: a view if these are aligned for numbers of ``itemsize``."""
        if not count:
            return torch.empty(0, dtype=torch.uint8)
        if self.mapping is not None and (self._first + start) % itemsize == 0:
            return torch.frombuffer(self.mapping, dtype=torch.uint8, count=count, offset=self._first + start)
        copy = torch.empty(count, dtype=torch.uint8)
        target, chunk = copy.numpy().data, 1 << 24
        for begin in range(0, count, chunk):
            target[begin : begin + chunk] = self.view[start + begin : start + min(begin + chunk, count)]
            self._forget(start + begin, chunk)
        return copy

    def _forget(self, start: int, count: int) -> None:
        """Release the memory of bytes that were copied."""
        if self.mapping is not None:
            first = -(-(self._first + start) // mmap.PAGESIZE) * mmap.PAGESIZE
            length = min(self._first + start + count, len(self.mapping)) - first
            if length > 0:
                self.mapping.madvise(mmap.MADV_DONTNEED, first, length)


def _address(view: memoryview) -> int:
    return int(np.frombuffer(view, np.uint8).ctypes.data)


def opened(path: Path) -> Bytes:
    """Bytes of a file. Raises :class:`CheckpointError` for an empty file, or anything that is not a file."""
    try:
        kind = path.stat()
        if stat.S_ISDIR(kind.st_mode):
            raise CheckpointError(_folder(path))
        if not stat.S_ISREG(kind.st_mode):
            raise CheckpointError(f"{path} is no regular file: give the file with the weights")
        if not kind.st_size:
            raise CheckpointError(f"{path} is empty: its download failed, get it again")
        with path.open("rb") as file:
            return Bytes(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    except FileNotFoundError:
        if path.is_symlink():
            raise CheckpointError(
                f"{path} is a link to {os.readlink(path)}, which is not there: get it again"
            ) from None
        raise CheckpointError(f"there is no file {path}: give a file with weights") from None
    except OSError as error:
        reason = "it is a link to itself" if error.errno == errno.ELOOP else error.strerror or error
        raise CheckpointError(f"cannot read {path}: {reason}") from None
    except ValueError as error:  # mmap, for a file that has just been emptied; a name with a null character
        raise CheckpointError(f"cannot read {path}: {error}") from None


def _folder(path: Path) -> str:
    if (path / "saved_model.pb").exists():
        return f"{path} is a model of TensorFlow, which is not read: give weights of PyTorch, NumPy or safetensors"
    suffixes = (".safetensors.index.json", ".bin.index.json", ".safetensors", ".pt", ".pth", ".ckpt", ".tar", ".bin")
    names = sorted(each.name for each in path.iterdir() if each.name.endswith((*suffixes, ".npz", ".pkl")))
    has = f", for instance {names[0]}" if names else ""
    return f"{path} is a folder: give the file in it that holds the weights{has}"
