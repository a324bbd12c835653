"""Faults that a child injects into itself, at its file events or into its clock."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from file_events import watch

Prepare = Callable[[], None]


def failing_at(folder: Path, number: int, error: int) -> Prepare:
    """From its file event ``number`` on each change of a file below ``folder`` fails with the error number ``error``."""

    def see(count: int, _: object) -> None:
        if count >= number:
            raise OSError(error, os.strerror(error))

    return lambda: watch(folder, see)


def stopped_at(folder: Path, number: int) -> Prepare:
    """It stops at its file event ``number``, until it is told to go on."""

    def see(count: int, _: object) -> None:
        if count == number:
            os.kill(os.getpid(), signal.SIGSTOP)

    return lambda: watch(folder, see)


def slow_disk(folder: Path, seconds: float) -> Prepare:
    """Each change of a file takes ``seconds`` longer."""
    return lambda: watch(folder, lambda *_: time.sleep(seconds))


def jumping_clock(seed: int, days: float = 400.0) -> Prepare:
    """The wall clock jumps at each look at it, by up to ``days`` to either side; the monotonic clock does not."""
    draw, wall, wall_ns = random.Random(seed), time.time, time.time_ns

    def jump() -> float:
        return draw.uniform(-days, days) * 86_400

    def prepare() -> None:
        time.time = lambda: wall() + jump()
        time.time_ns = lambda: wall_ns() + int(jump() * 1e9)

    return prepare
