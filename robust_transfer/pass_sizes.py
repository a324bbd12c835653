"""Sizes of forward passes on the CPU: large enough to fill the machine, with results independent of other images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

# Images in one pass on the CPU: so many a thread, up to MAX_PASS in all, but at least MIN_A_THREAD a thread.
IMAGES_A_THREAD, MAX_PASS, MIN_A_THREAD = 16, 128, 8
FULL_A_THREAD = 64  # in bfloat16, whose maps are half as large: they still lie near the core
# Fewer of photos: the maps of many take memory that the system has to clear in every pass, which costs more than they gain.
PIXELS_A_THREAD = 8 * 224**2
MIN_PASS = 4
OVERHEAD_IMAGES = 12  # a pass takes so many images' time on top of its own


def usual_chunk(device: torch.device, size: int | None = None) -> int | None:
    """Images in one pass, of ``size`` pixels a side: on the CPU a constant (given the threads), elsewhere all images.

    CPU kernels are chosen by the batch's size and may differ in their last bits, which the sign in an attack's step
    turns into another image; with one shape a row's result depends on that row alone.
    """
    if device.type != "cpu":
        return None
    threads = torch.get_num_threads()
    usual = max(MIN_A_THREAD * threads, min(MAX_PASS, IMAGES_A_THREAD * threads))
    return usual if size is None else max(1, min(usual, threads * PIXELS_A_THREAD // size**2))


def full_chunk(device: torch.device, size: int | None = None, dtype: torch.dtype = torch.float32) -> int | None:
    """Images in the largest efficient pass: :func:`usual_chunk`, and more in bfloat16."""
    usual = usual_chunk(device, size)
    if usual is None or dtype is torch.float32:
        return usual
    threads = torch.get_num_threads()
    full = max(usual, min(MAX_PASS, FULL_A_THREAD * threads))
    return full if size is None else max(usual, min(full, threads * PIXELS_A_THREAD // size**2))


def smaller(chunk: int) -> tuple[int, ...]:
    """``chunk`` and the powers of two below it, from :data:`MIN_PASS` on, ascending."""
    powers = [2**k for k in range(chunk.bit_length()) if MIN_PASS <= 2**k < chunk]
    return (*powers, chunk)


def cover(rows: int, sizes: Sequence[int]) -> list[int]:
    """Sizes of the passes for ``rows`` images, chosen from ``sizes`` (ascending); the last one may be filled up.

    The largest first; the remainder in the combination of least time, if a pass takes as long as its images and
    :data:`OVERHEAD_IMAGES` more.
    """
    whole, rest = divmod(rows, sizes[-1])
    return [sizes[-1]] * whole + (_least(rest, sizes)[1] if rest else [])


def _least(rows: int, sizes: Sequence[int]) -> tuple[int, list[int]]:
    """Least time (in units of one image) and sizes for the last ``rows``."""
    enough = next(size for size in sizes if size >= rows)
    best = enough + OVERHEAD_IMAGES, [enough]
    fitting = [size for size in sizes if size < rows]
    if fitting:
        time, others = _least(rows - fitting[-1], sizes)
        best = min(best, (fitting[-1] + OVERHEAD_IMAGES + time, [fitting[-1], *others]), key=lambda found: found[0])
    return best


def agreeing(found: Mapping[int, Sequence[Tensor]], usual: Sequence[Tensor]) -> tuple[int, ...]:
    """Pass sizes whose rows equal those of the ``usual`` ones, bit for bit, ascending.

    ``found``: for each size the outputs for the last so many images of a sample, in one pass; ``usual``: the outputs
    for the whole sample, in passes of the usual size. So the images also have other positions. Kernels depend on
    shapes and not on values: agreement in thousands of numbers means agreement everywhere.
    """
    return tuple(size for size in sorted(found) if _same(found[size], usual, size))


def _same(some: Sequence[Tensor], more: Sequence[Tensor], rows: int) -> bool:
    return all(torch.equal(a, b[-rows:]) for a, b in zip(some, more, strict=True))
