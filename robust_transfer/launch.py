"""Processes that a launcher started together, such as torchrun: this one's rank among them."""

from __future__ import annotations

import os


def is_main_process() -> bool:
    """Whether this process is the one that writes (rank 0, or the only one)."""
    return int(os.environ.get("RANK", "0")) == 0
