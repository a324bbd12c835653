"""Freed memory that stays with the process, counted by the pages that the system hands out."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from robust_transfer.allocation import keep_freed_memory

MANY = 128 * 2**20  # bytes: beyond what glibc keeps by itself
GLIBC = "glibc" in (os.confstr("CS_GNU_LIBC_VERSION") or "") if hasattr(os, "confstr") else False
needs_glibc = pytest.mark.skipif(not GLIBC, reason="another C library")


def pages(work: Callable[[], object]) -> int:
    """Pages that the system hands out meanwhile."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def tensors() -> None:
    for _ in range(4):
        torch.ones(MANY, dtype=torch.uint8)


@needs_glibc
def test_what_is_freed_is_used_again_and_goes_back_afterwards() -> None:
    before = resident()
    with keep_freed_memory():
        tensors()  # the place that they come to have is found within a few
        assert resident() - before > MANY / 2
        kept = pages(tensors)
    assert resident() - before < MANY / 2
    assert kept < 0.05 * pages(tensors)


@needs_glibc
def test_it_ends_with_an_error_too() -> None:
    def interrupted() -> None:
        with keep_freed_memory():
            tensors()
            raise KeyboardInterrupt

    before = resident()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert resident() - before < MANY / 2
    assert pages(tensors) > 100


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    with keep_freed_memory():
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="not asked for")
def test_glibcs_own_ways_are_back_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is mapped by itself, and the heap's end is kept; afterwards as glibc has it once it has seen large tensors."""
    found = dict[int, int]()
    libc = SimpleNamespace(mallopt=found.__setitem__, malloc_trim=lambda _: None)
    monkeypatch.setattr("ctypes.CDLL", lambda _: libc)
    with keep_freed_memory():
        assert found == {-4: 0, -1: 2**31 - 1}
    assert found == {-4: 65536, -1: 64 * 2**20, -3: 32 * 2**20}
