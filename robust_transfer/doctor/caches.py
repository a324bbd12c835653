"""Cache folders and their sizes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from robust_transfer.compiling import keep_compiled
from robust_transfer.download.cache import cache_folder


@dataclass(frozen=True)
class Cache:
    """Folder of reproducible files. ``move``: the environment variable that relocates it. ``size`` in bytes."""

    holds: str
    folder: str
    move: str
    size: int
    files: int


def caches() -> list[Cache]:
    """All cache folders, existing or not."""
    from huggingface_hub import constants

    compiled = keep_compiled()
    found = [
        ("downloaded weights", cache_folder(), "TORCH_HOME"),
        ("repositories of the Hub", Path(constants.HF_HUB_CACHE), "HF_HOME"),
        ("data sets of the Hub, as Arrow", Path(constants.HF_HOME) / "datasets", "HF_HOME"),
    ]
    if compiled is not None:
        found.append(("compiled steps, and what trials found", compiled, "TORCHINDUCTOR_CACHE_DIR"))
    return [Cache(holds, str(folder), move, *_measured(folder)) for holds, folder, move in found]


def _measured(folder: Path) -> tuple[int, int]:
    """Bytes and number of files below a folder; links are not followed, vanished files not counted."""
    sizes = list(_sizes(folder))
    return sum(sizes), len(sizes)


def _sizes(folder: Path) -> Iterator[int]:
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                yield os.lstat(os.path.join(root, name)).st_size
            except OSError:
                continue
