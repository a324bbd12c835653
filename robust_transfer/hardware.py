"""Hardware-dependent precision, and timings that a busy neighbour does not change."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import torch

ROUNDS, MOST_ROUNDS = 5, 25
NEAR = 0.1  # so near to the bar, or with minima that were met only once, more rounds are timed
CONFIRMED = 0.05  # the second-lowest time lies within that of the lowest
MIN_PRODUCT_GAIN = 1.5  # matrix products must be so many times as fast


def gains_by_bfloat16(device: torch.device) -> bool:
    """True if ``device`` computes faster in bfloat16; AVX-512 alone emulates it, and its bfloat16 products may be slow."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        return has_matrix_units(device) or (torch.cpu._is_avx512_bf16_supported() and _faster_products())
    return False


def has_matrix_units(device: torch.device) -> bool:
    """True if ``device`` is a CPU with matrix units (AMX) for bfloat16."""
    return device.type == "cpu" and torch.cpu._is_amx_tile_supported()


def seconds(device: torch.device) -> float:
    """Clock: on the CPU this process's time over all cores, which other processes do not use up; elsewhere wall-clock time."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.process_time() if device.type == "cpu" else time.perf_counter()


def gain(slow: Callable[[], float], fast: Callable[[], float], bar: float) -> float:
    """Speed-up of ``fast``: ratio of the lowest times that the calls return, in seconds.

    Other load can only lengthen a time, so the lowest is nearest to the truth. Calls alternate; there are more of
    them while the ratio is near ``bar`` or a lowest time occurred only once.
    """
    times: tuple[list[float], list[float]] = ([], [])
    while True:
        for found, measure in zip(times, (slow, fast), strict=True):
            found.append(measure())
        ratio = min(times[0]) / max(min(times[1]), 1e-12)
        sure = abs(ratio / bar - 1) > NEAR and all(_confirmed(found) for found in times)
        if len(times[0]) >= (ROUNDS if sure else MOST_ROUNDS):
            return ratio


def _confirmed(times: list[float]) -> bool:
    """True if the lowest time occurred twice."""
    return len(times) > 1 and sorted(times)[1] <= (1 + CONFIRMED) * min(times)


@functools.cache
def _faster_products() -> bool:
    """True if matrix products on the CPU are at least 1.5 times as fast in bfloat16, measured once (some 50 ms)."""
    cpu = torch.device("cpu")

    def product(matrix: torch.Tensor) -> float:
        started = seconds(cpu)
        matrix @ matrix
        return seconds(cpu) - started

    exact, fast = (torch.ones(768, 768, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    product(exact), product(fast)  # the first time prepares
    return gain(lambda: product(exact), lambda: product(fast), MIN_PRODUCT_GAIN) >= MIN_PRODUCT_GAIN
