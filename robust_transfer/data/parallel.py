"""Threads for decoding and resizing: PIL releases the interpreter lock in both."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

CHUNK = 32  # images a thread takes at a time, at most: small pictures cost little more than the hand-over
FEW = 8  # up to so many images are not worth a thread


def in_threads(work: Callable[[int], None], count: int) -> None:
    """Call ``work(0) ... work(count - 1)`` on as many threads as PyTorch uses; raises the first error."""
    threads = torch.get_num_threads()
    if threads == 1 or count <= FEW:
        for position in range(count):
            work(position)
        return
    size = max(1, min(CHUNK, count // (4 * threads)))  # a few for each thread, so that all end at about the same time

    def chunk(start: int) -> None:
        for position in range(start, min(start + size, count)):
            work(position)

    with ThreadPoolExecutor(threads) as pool:  # a pool a call: one kept for good would hang in a forked process
        for _ in pool.map(chunk, range(0, count, size)):
            pass
