"""Cache of tensors shared between runs: one file per entry, named by a hash of its inputs."""

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

from robust_transfer.files import sweep, write_bytes


def load_or_compute(
    folder: Path | None, kind: str, key: str, make: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Result of ``make``, loaded from ``folder`` if stored there, else computed and stored (None: never stored).

    ``key`` must say all that the tensors depend on, but for the code: results of another version of this package or
    of PyTorch are not reused. Concurrent callers wait for the one that computes.
    """
    if folder is None:
        return make()
    path = folder / kind / f"{key}-{code_digest(Path(__file__).parent)}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(path.with_suffix(".lock"))):
        try:
            return load(path.read_bytes())
        except (FileNotFoundError, SafetensorError):  # missing, or truncated
            sweep(path)
            tensors = {name: value.contiguous() for name, value in make().items()}
            write_bytes(path, save(tensors))
            return tensors


@functools.cache
def code_digest(package: Path) -> str:
    """16 hex digits for PyTorch's version and all source files in a folder, so that changed code has its own results."""
    content = hashlib.sha256(torch.__version__.encode())
    for file in sorted(package.rglob("*.py")):
        content.update(f"\0{file.relative_to(package).as_posix()}\0".encode())
        content.update(file.read_bytes())
    return content.hexdigest()[:16]
