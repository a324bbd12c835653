"""Diagnosis: the installation, its speed, and advice."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from robust_transfer.doctor.caches import Cache, caches
from robust_transfer.doctor.extras import Extra, extras
from robust_transfer.doctor.self_test import Check, self_test
from robust_transfer.doctor.speeds import Speed, speeds
from robust_transfer.environment import environment
from robust_transfer.hardware import gains_by_bfloat16, has_matrix_units
from robust_transfer.progress import stage
from robust_transfer.run import Run

ROOM = 5 * 2**30  # bytes that a disk should have left


@dataclass(frozen=True)
class Diagnosis:
    """Result of :func:`diagnose`. ``advice``: sentences, one recommended change each."""

    versions: dict[str, str]
    hardware: dict[str, Any]
    precision: str
    threads: int
    allowed: int
    load: float | None
    wait_policy: str
    caches: Sequence[Cache]
    extras: Sequence[Extra]
    speeds: Sequence[Speed]
    checks: Sequence[Check]
    advice: Sequence[str]

    @property
    def healthy(self) -> bool:
        """True if every check of the self-test holds."""
        return not any(check.problem for check in self.checks)

    def __str__(self) -> str:
        first = self.speeds[0].milliseconds if self.speeds else 0.0
        load = "unknown" if self.load is None else f"{self.load:.1f}"
        may = f"{self.threads} of {self.allowed} CPUs that this process may use"
        rows = [
            ("self-test", _verdict(self.checks)),
            *(("", _told(check)) for check in self.checks),
            *(("advice", sentence) for sentence in self.advice),
            ("versions", ", ".join(f"{name} {version}" for name, version in self.versions.items())),
            ("hardware", f"{self.hardware['cpu']}, GPU: {self.hardware['gpu'] or 'none'}"),
            ("precision", f"auto is {self.precision} here"),
            ("threads", f"{may}; load {load}; OMP_WAIT_POLICY {self.wait_policy}"),
            *(
                ("step", f"{s.name}: {s.milliseconds:.2f} ms an image ({first / s.milliseconds:.2f} x)")
                for s in self.speeds
            ),
            *(("cache", f"{c.size / 2**20:.0f} MiB: {c.holds}: {c.folder} ({c.move} moves it)") for c in self.caches),
            *(("extra", f"[{e.name}] {_state(e)}: {e.adds}") for e in self.extras),
        ]
        return "\n".join(f"{name:<11}{text}" for name, text in rows)


def diagnose(run: Run | None = None, *, compiled: bool = False, tested: bool = True) -> Diagnosis:
    """Inspect the installation and the machine, time an attack step, run the self-test (about a minute in all).

    ``compiled`` also times compiled steps, which takes one or two minutes the first time. ``tested``: with the self-
    test.
    """
    run = run or Run()
    with run.at_work():
        with stage("measuring a step", None, run.quiet):
            found = speeds(run, compiled=compiled)
        checks = self_test(run) if tested else []
        made, kept, allowed = environment(), caches(), allowed_cpus()
        return Diagnosis(
            versions=made["versions"],
            hardware=made["hardware"],
            precision=str(run.dtype()).removeprefix("torch."),
            threads=torch.get_num_threads(),
            allowed=allowed,
            load=_load(),
            wait_policy=os.environ.get("OMP_WAIT_POLICY", "not set"),
            caches=kept,
            extras=extras(),
            speeds=found,
            checks=checks,
            advice=list(_advice(run, allowed, kept)),
        )


def allowed_cpus() -> int:
    """CPUs that this process may use: by its affinity, and by the quota of its control group (a container's limit)."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cpus, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or "max": no quota
        return cpus


def _load() -> float | None:
    """Processes that want a CPU, averaged over the last minute."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _advice(run: Run, allowed: int, kept: Sequence[Cache]) -> list[str]:
    found, threads, load = [], torch.get_num_threads(), _load()
    if threads > allowed:
        found.append(f"PyTorch has {threads} threads, and {allowed} CPUs may be used: give --threads {allowed}")
    if load is not None and load > 1.5 * allowed:
        found.append(f"the load is {load:.1f} on {allowed} CPUs: others compute, too, and times will be longer")
    if os.environ.get("OMP_WAIT_POLICY", "").upper() == "ACTIVE":
        found.append("OMP_WAIT_POLICY is ACTIVE: two jobs at once slow each other down tenfold; PASSIVE does not")
    device = run.torch_device()
    if device.type == "cpu" and not gains_by_bfloat16(device):
        found.append(
            "this CPU gains nothing by bfloat16: attacks and training take two to five times as long as where it does"
        )
    elif device.type == "cpu" and not has_matrix_units(device):
        found.append("this CPU has no matrix units: bfloat16 gains about twofold, with them it would be more")
    for cache in kept:
        folder = Path(cache.folder)
        there = next((each for each in (folder, *folder.parents) if each.exists()), None)
        if there is not None and (left := shutil.disk_usage(there).free) < ROOM:
            found.append(f"{left / 2**30:.1f} GiB are left on the disk of {folder}: {cache.move} moves it")
    return found


def _state(extra: Extra) -> str:
    return "installed" if not extra.missing else f"pip install 'robust-transfer[{extra.name}]'"


def _verdict(checks: Sequence[Check]) -> str:
    failed = sum(bool(check.problem) for check in checks)
    return "not run" if not checks else f"{failed} of {len(checks)} checks FAILED" if failed else "every check holds"


def _told(check: Check) -> str:
    how, why = ("FAILED", f": {check.problem}") if check.problem else ("ok", "")
    return f"{how:<7}{check.name} ({check.seconds:.1f} s){why}"
