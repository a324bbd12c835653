"""The self-test: it holds here, and it fails where something is wrong."""

from __future__ import annotations

import pytest
from helpers import QUIET

from robust_transfer.doctor import self_test as module
from robust_transfer.doctor.self_test import self_test


def test_it_holds() -> None:
    found = self_test(QUIET)
    assert [check.problem for check in found] == [""] * 4


def test_bounds_that_are_not_kept_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ACCURATE", 1.01)
    monkeypatch.setattr(module, "GUESSING", -0.01)
    learns, _, breaks, _ = self_test(QUIET)
    assert "% of 60 test images are right" in learns.problem
    assert "at linf:64/255" in breaks.problem


def test_an_exception_ends_it_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("no kernel")

    monkeypatch.setattr(module, "load_source", broken)
    (check,) = self_test(QUIET)
    assert check.problem == "RuntimeError: no kernel"
