"""The diagnosis: what it advises, and its words."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import QUIET

from robust_transfer.doctor import diagnosis as module
from robust_transfer.doctor.diagnosis import allowed_cpus, diagnose
from robust_transfer.doctor.self_test import Check
from robust_transfer.doctor.speeds import Speed


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured."""
    monkeypatch.setattr(module, "speeds", lambda *_, **__: [Speed("float32", 4.0), Speed("bfloat16", 2.0)])
    monkeypatch.setattr(
        module, "self_test", lambda _: [Check("it adds up", "", 0.5), Check("it is fast", "it is not", 1.0)]
    )


@pytest.mark.usefixtures("quick")
def test_failed_checks_and_gains_are_told() -> None:
    found = diagnose(QUIET)
    assert not found.healthy
    text = str(found)
    for part in (
        "1 of 2 checks FAILED",
        "it is fast (1.0 s): it is not",
        "ok     it adds up",
        "bfloat16: 2.00 ms an image (2.00 x)",
    ):
        assert part in text
    assert diagnose(QUIET, tested=False).healthy
    assert "not run" in str(diagnose(QUIET, tested=False))


@pytest.mark.usefixtures("quick")
def test_too_many_threads_and_other_jobs_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "allowed_cpus", lambda: 2)
    monkeypatch.setattr(module, "_load", lambda: 9.0)
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**30))
    torch.set_num_threads(4)
    advice = "\n".join(diagnose(QUIET).advice)
    for part in ("--threads 2", "load is 9.0 on 2 CPUs", "PASSIVE", "1.0 GiB are left"):
        assert part in advice
    torch.set_num_threads(1)
    monkeypatch.setattr(module, "_load", lambda: 0.5)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**40))
    advice = "\n".join(diagnose(QUIET).advice)
    for part in ("--threads", "the load is", "PASSIVE", "GiB are left"):
        assert part not in advice


@pytest.mark.parametrize(
    ("quota", "cpus"), [("150000 100000\n", 2), ("50000 100000\n", 1), ("max 100000\n", 8), ("x", 8)]
)
def test_a_containers_quota_counts(monkeypatch: pytest.MonkeyPatch, quota: str, cpus: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(Path, "read_text", lambda _: quota)
    assert allowed_cpus() == cpus
