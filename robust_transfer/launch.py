"""Processes that a launcher started together (torchrun, ``accelerate launch``): this one's rank among them.

A launcher sets a whole set of variables. Some of them alone, left in an environment or set by a batch system, mean nothing:
such a process is alone, and it writes.
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
    """This process's place: what torch.distributed says where it runs, else what a launcher has set; else alone."""
    torch = sys.modules.get("torch")  # nobody has started a group without it
    local = _number("LOCAL_RANK") or 0
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        return Place(torch.distributed.get_rank(), torch.distributed.get_world_size(), local)
    rank, world, port = (_number(name) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
    if rank is None or world is None or port is None or not os.environ.get("MASTER_ADDR") or not 0 <= rank < world:
        return Place()
    return Place(rank, world, local) if world > 1 else Place()


def is_main_process() -> bool:
    """True in the process that writes: rank 0, or the only one."""
    return place().rank == 0


def _number(name: str) -> int | None:
    text = os.environ.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else None
