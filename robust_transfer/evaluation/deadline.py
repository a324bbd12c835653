"""Time limit: the time left, and the number of images that fit."""

from __future__ import annotations

import math
import time

FIRST, GROWTH = 16, 4  # images in the first block of an attack, and how much larger than the last the next may be


class Deadline:
    """``seconds`` from now on; None: no limit."""

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds, self.began = seconds, time.perf_counter()

    @property
    def left(self) -> float:
        """Seconds left."""
        return math.inf if self.seconds is None else self.seconds - (time.perf_counter() - self.began)

    def fits(self, most: int, before: int = 0, pace: float = 0.0) -> int:
        """Size of the next block of images, at most ``most``.

        ``before``: size of the last block, at ``pace`` seconds per image. An attack's first block is small, as its
        pace is not known yet.
        """
        if self.seconds is None:
            return most
        if self.left <= 0:
            return 0
        if not before:
            return min(FIRST, most)
        within = int(self.left / pace) if pace > 0 else most
        return min(most, GROWTH * before, within)
