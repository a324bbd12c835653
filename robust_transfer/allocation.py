"""Keep memory that PyTorch frees on the CPU: the next training step allocates the same sizes again."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # of glibc's mallopt
MOST = 2**31 - 1
MARGIN = 64 * 2**20  # bytes for kernels and workspaces
LARGE = 32 * 2**20  # what glibc's own threshold grows to once tensors of that size have been freed


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Keep freed memory in the process inside the block; return it to the system afterwards.

    glibc gives back what is large at once, and takes it anew, page by page and zeroed, for the next tensor of that size:
    a seventh of a training step on images of 64 pixels. Does nothing where the C library is another one, nor within a limit on
    the address space: what is kept there is missing elsewhere.
    """
    libc = _glibc()
    if libc is None or _is_limited():
        yield
        return
    libc.mallopt(MMAP_MAX, 0)
    libc.mallopt(TRIM_THRESHOLD, MOST)
    try:
        yield
    finally:
        give_back()


def give_back() -> None:
    """Return freed memory to the system now, and from here on as glibc does by itself.

    Where memory is short, what a process keeps for tensors is missing elsewhere: kernels that oneDNN builds, for example.
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(MMAP_MAX, 65536)
        libc.mallopt(MMAP_THRESHOLD, LARGE)
        libc.mallopt(TRIM_THRESHOLD, 2 * LARGE)
        libc.malloc_trim(0)


def held() -> int:
    """Bytes of data that this process has asked the system for; 0 where it does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as sizes:
            return int(sizes.read().split()[5]) * mmap.PAGESIZE
    except (OSError, IndexError, ValueError):
        return 0


def ask_for(count: int) -> None:
    """Raise :class:`MemoryError` unless so many bytes and a margin are to be had. None is touched: it costs microseconds.

    The native code of a backward pass does not raise where memory runs out: within a limit it dies of it.
    """
    if sys.platform != "linux":
        return
    try:
        mmap.mmap(-1, max(count, 0) + MARGIN, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except OSError:
        raise MemoryError(f"{count} bytes for the backward pass") from None


def _is_limited() -> bool:
    import resource  # which Windows lacks

    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
