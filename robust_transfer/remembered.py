"""Results of engine trials on this machine, stored beside the cache of ``torch.compile``."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from robust_transfer.compiling import keep_compiled
from robust_transfer.errors import OutputError
from robust_transfer.files import write_bytes
from robust_transfer.texts import read_json


def recall(key: str) -> dict[str, Any]:
    """Stored results under ``key``; empty if unknown or unreadable."""
    path = _path(key)
    if path is None:
        return {}
    try:
        found = read_json(path)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def remember(key: str, **found: Any) -> None:
    """Store results under ``key``, added to existing ones. Does nothing where the folder is full or not writable."""
    path = _path(key)
    if path is not None:
        with suppress(OSError, OutputError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, json.dumps({**recall(key), **found}).encode())


def _path(key: str) -> Path | None:
    """Path in the compiler's folder, which is specific to the CPU and to PyTorch's version, and is removed with it."""
    folder = keep_compiled()
    return None if folder is None else folder / "robust-transfer" / f"{key}.json"
