"""Record of a number's conditions: versions, hardware, commit, command."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch


def environment() -> dict[str, Any]:
    """Versions, hardware and commit behind a number. No host names, no paths."""
    names = ("robust-transfer", "torch", "torchvision", "timm", "datasets", "accelerate", "scikit-learn", "numpy")
    versions = {"python": platform.python_version()}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    hardware = {"machine": platform.machine(), "cpu": _cpu_name(), "threads": torch.get_num_threads(), "gpu": gpu}
    return {"versions": versions, "hardware": hardware, "commit": _commit()}


def version() -> str:
    """Version of the installed package."""
    try:
        return metadata.version("robust-transfer")
    except metadata.PackageNotFoundError:
        return "of a folder"


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()


def _commit() -> str | None:
    """Commit of the package's own checkout, or None where it is installed from a wheel."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def command_line() -> str:
    """Running command, with the program's name in place of its path."""
    if not sys.argv or not sys.argv[0]:
        return "python"
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
