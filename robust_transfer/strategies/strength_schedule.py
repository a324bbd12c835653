"""Strength of a penalty over a training: the share of it that holds at a step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

StrengthSchedule = Literal["constant", "linear-up", "linear-down", "cosine"]
SHAPES: dict[str, Callable[[float], float]] = {
    "constant": lambda t: 1.0,
    "linear-up": lambda t: t,
    "linear-down": lambda t: 1.0 - t,
    "cosine": lambda t: 0.5 * (1.0 + math.cos(math.pi * t)),
}


def strength_share(schedule: StrengthSchedule, least: float, step: int, total: int) -> float:
    """Share of the strength at ``step`` of ``total``, between ``least`` and 1, both of which are reached.

    A function of the step alone: a training that resumes goes on at the same share.
    """
    t = step / max(1, total - 1)
    return least + (1.0 - least) * SHAPES[schedule](t)
