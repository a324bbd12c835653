"""What trials have found on this machine, kept beside what ``torch.compile`` has made: it need not be found out again."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from robust_transfer.compiling import keep_compiled
from robust_transfer.files import write_bytes


def recall(key: str) -> dict[str, Any]:
    """Findings under ``key``; none where nothing is known, or what is written there cannot be read."""
    path = _path(key)
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def remember(key: str, **found: Any) -> None:
    """Keep findings under ``key``, beside those that are there. Where nothing can be written nothing is kept."""
    path = _path(key)
    if path is not None:
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, json.dumps({**recall(key), **found}).encode())


def _path(key: str) -> Path | None:
    """In the compiler's folder, which other CPUs and other versions of PyTorch do not share: it goes where that goes."""
    folder = keep_compiled()
    return None if folder is None else folder / "robust-transfer" / f"{key}.json"
