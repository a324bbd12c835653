"""Computations on fewer rows at a time where memory does not suffice: halved until they fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from robust_transfer.allocation import give_back
from robust_transfer.errors import MemoryLimitError
from robust_transfer.messages import logger

log = logger(__name__)
T = TypeVar("T")

# Words of PyTorch's CPU allocator, of CUDA's libraries, of oneDNN (whose kernels need memory to be built) and of C++, in
# errors that have no class of their own.
SIGNS = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "bad_alloc",
    "bad allocation",
    "ALLOC_FAILED",
    "could not create a memory",
    "could not create a primitive",
    "could not execute a primitive",
)


def ran_out(error: BaseException) -> bool:
    """True if ``error`` says that memory did not suffice, on the CPU or on a GPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)


def half(rows: int, least: int, what: str) -> int:
    """Half of so many ``rows``, at least ``least``; frees what the allocator and CUDA have kept, and says it.

    Raises :class:`MemoryLimitError` where there are no more than ``least`` already.
    """
    if rows <= least:
        raise MemoryLimitError(
            f"{what} of {rows} image{'s' * (rows != 1)} does not fit in memory: free some, or take a smaller network, "
            "smaller images or a machine with more"
        )
    give_back()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    fewer = max(least, rows // 2)
    log.info("%s of %d images does not fit in memory: %d at a time from here on", what, rows, fewer)
    return fewer


class Halving:
    """Passes over rows, in parts that fit; what did not fit once is not tried again for rows of that shape."""

    def __init__(self, what: str = "a pass", least: int = 1) -> None:
        self.what, self.least = what, least
        self.most: dict[tuple[int, ...], int] = {}

    def over(self, rows: int, shape: tuple[int, ...], compute: Callable[[slice], T]) -> list[T]:
        """Results of ``compute`` on slices that cover ``rows`` rows of ``shape``, in order; without rows on ``0:0``."""
        found, at = list[T](), 0
        while at < rows or not found:
            size = min(rows - at, self.most.get(shape, rows))
            try:
                found.append(compute(slice(at, at + size)))
            except (MemoryError, RuntimeError) as error:
                if not ran_out(error):
                    raise
                fits = False
            else:
                fits = True
            # outside the handler: the error holds the failed pass's tensors
            if fits:
                at += size
            else:
                self.most[shape] = half(size, self.least, self.what)
            if not rows:
                break
        return found
