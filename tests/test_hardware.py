"""Precision that the hardware gains by."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from statistics import median

import pytest
import torch

from robust_transfer import hardware


@pytest.mark.parametrize("bfloat16", [0.5, 1.0, 2.0])
def test_products_are_timed(monkeypatch: pytest.MonkeyPatch, bfloat16: float) -> None:
    now = 0.0
    product = torch.Tensor.__matmul__

    def slow(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        nonlocal now
        now += bfloat16 if a.dtype is torch.bfloat16 else 1.0
        return product(a[:2], b[:, :2])

    monkeypatch.setattr(time, "process_time", lambda: now)
    monkeypatch.setattr(torch.Tensor, "__matmul__", slow)
    assert hardware._faster_products.__wrapped__() is (bfloat16 < 0.6)


def noisy(seconds: float, generator: random.Random) -> Callable[[], float]:
    """A step that takes so long, and half of the time longer, now and then by far: the machine is shared."""
    return lambda: seconds * (1 + generator.paretovariate(1.2) * (generator.random() < 0.5))


@pytest.mark.parametrize("bar", [1 / 1.1, 1.1, 1.5])
@pytest.mark.parametrize("over", [0.8, 1.25])
def test_a_busy_neighbour_does_not_change_a_decision(bar: float, over: float) -> None:
    right = before = 0
    for seed in range(100):
        generator = random.Random(seed)
        slow, fast = noisy(bar * over, generator), noisy(1.0, generator)
        right += (hardware.gain(slow, fast, bar) >= bar) == (over > 1)
        times = [(slow(), fast()) for _ in range(5)]  # a median of five, taken in turn
        before += (median(a for a, _ in times) >= bar * median(b for _, b in times)) == (over > 1)
    assert right >= 99
    assert before < 90


def test_more_is_timed_where_it_is_close() -> None:
    for ratio, calls in ((2.0, hardware.ROUNDS), (1.15, hardware.MOST_ROUNDS), (1.05, hardware.MOST_ROUNDS)):
        made: list[float] = []
        assert hardware.gain(lambda made=made, r=ratio: made.append(r) or r, lambda: 1.0, 1.1) == ratio  # type: ignore[misc]
        assert len(made) == calls


def test_the_cpus_clock_is_this_processes_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "process_time", lambda: 1.0)
    monkeypatch.setattr(time, "perf_counter", lambda: 2.0)
    assert hardware.seconds(torch.device("cpu")) == 1.0
    assert hardware.seconds(torch.device("mps")) == 2.0
