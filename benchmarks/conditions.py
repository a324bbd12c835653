"""Conditions of a timing: hardware, threads, wait policy, versions, commit."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import robust_transfer
from robust_transfer.environment import environment
from robust_transfer.run import Run

VERSIONS = ("python", "torch", "timm", "accelerate")
ROOT = Path(robust_transfer.__file__).parents[1]


def conditions() -> dict[str, str]:
    """Hardware, threads, wait policy, precision that ``auto`` takes, versions and commit, each in words."""
    made = environment()
    hardware = made["hardware"]
    versions = [f"{name} {made['versions'][name]}" for name in VERSIONS if name in made["versions"]]
    commit = made["commit"] or "unknown"
    return {
        "hardware": f"{hardware['gpu'] or hardware['cpu']}, {cpus()} CPUs",
        "threads": str(hardware["threads"]),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "not set"),
        "precision": str(Run().dtype()).removeprefix("torch."),
        "versions": ", ".join(versions),
        "commit": commit + (" with changes" if changed(ROOT) else ""),
    }


def cpus() -> int:
    """Number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def changed(root: Path) -> bool:
    """True if tracked files differ from the commit that is checked out."""
    command = ["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no"]
    try:
        return bool(subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip())
    except (OSError, subprocess.SubprocessError):
        return False
