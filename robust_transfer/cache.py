"""Tensors that several runs need and that one of them has computed: a file each, named by what went into it."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from robust_transfer.files import write_bytes


def load_or_compute(
    folder: Path | None, kind: str, key: str, make: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Result of ``make``, loaded from ``folder`` (None: nowhere) if it is there, else stored there.

    ``key`` must say all that the tensors depend on, but for the code: what another version of this package or of PyTorch
    has computed is not taken for what this one would. Who comes while it is being made waits for it.
    """
    if folder is None:
        return make()
    path = folder / kind / f"{key}-{code_digest(Path(__file__).parent)}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(path.with_suffix(".lock"))):
        try:
            return load(path.read_bytes())
        except (FileNotFoundError, SafetensorError):  # not there, or cut off by somebody else's doing
            tensors = {name: value.contiguous() for name, value in make().items()}
            write_bytes(path, save(tensors))
            return tensors


@functools.cache
def code_digest(package: Path) -> str:
    """16 hex digits for PyTorch's version and all source files in a folder: results of other code are other results."""
    content = hashlib.sha256(torch.__version__.encode())
    for file in sorted(package.rglob("*.py")):
        content.update(f"\0{file.relative_to(package).as_posix()}\0".encode())
        content.update(file.read_bytes())
    return content.hexdigest()[:16]
