"""Processes started together by a launcher (torchrun, ``accelerate launch``): this one's rank among them.

A launcher sets a whole set of variables. A part of the set, left in an environment or set by a batch system, means
nothing: such a process is alone, and it writes.
"""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Place(NamedTuple):
    """Rank of this process, from 0, among ``world`` processes, and on its machine."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0


def place() -> Place:
    """Rank of this process: from torch.distributed if it runs, else from a launcher's variables; else alone."""
    torch = sys.modules.get("torch")  # a process group needs it
    local = _number("LOCAL_RANK") or 0
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        return Place(torch.distributed.get_rank(), torch.distributed.get_world_size(), local)
    rank, world = _number("RANK"), _number("WORLD_SIZE")
    whole = all(os.environ.get(name) for name in NEEDED) and _number("MASTER_PORT") is not None
    if not whole or rank is None or world is None or not 0 <= rank < world:
        return Place()
    return Place(rank, world, local) if world > 1 else Place()


def is_main_process() -> bool:
    """True in the process that writes: rank 0, or the only one."""
    return place().rank == 0


def _number(name: str) -> int | None:
    text = os.environ.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else None
