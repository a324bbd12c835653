"""Precision that the hardware gains by."""

from __future__ import annotations

import time

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

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    monkeypatch.setattr(torch.Tensor, "__matmul__", slow)
    assert hardware._faster_products.__wrapped__() is (bfloat16 < 0.6)
