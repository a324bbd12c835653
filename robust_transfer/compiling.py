"""Persistent cache folder of ``torch.compile``: each machine compiles once."""

from __future__ import annotations

import os
import platform
import tempfile
from pathlib import Path

import torch

from robust_transfer.config import digest
from robust_transfer.download.cache import cache_folder

VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


def keep_compiled() -> Path | None:
    """Set the cache folder of PyTorch's compiler beside our downloads; call it before compiling.

    Returns the folder. The user's own choice, ``TORCHINDUCTOR_CACHE_DIR``, is kept; without a writable folder the
    result is None and PyTorch takes a temporary one.
    """
    if (given := os.environ.get(VARIABLE)) and not _temporary(Path(given)):
        return Path(given)
    folder = cache_folder().with_name("compiled") / digest(str(torch.__version__), platform.machine(), _abilities())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    if not os.access(folder, os.W_OK):
        return None
    os.environ[VARIABLE] = str(folder)  # the compiler reads it when it first needs it, and so do its processes
    return folder


def _temporary(folder: Path) -> bool:
    """True for the compiler's own default, which it writes to the variable as soon as it is loaded."""
    return folder.parent == Path(tempfile.gettempdir()) and folder.name.startswith("torchinductor_")


def _abilities() -> str:
    """Instruction set of this CPU: compiled code must not run on another, and machines may share a home folder."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
