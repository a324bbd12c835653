"""Child processes: what they import, and the memory that they have taken at most."""

from __future__ import annotations

import os
from pathlib import Path


def with_helpers() -> dict[str, str]:
    """This process's environment, with the helpers of the tests on the child's path."""
    before = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *([before] if before else [])])}


def peak() -> int:
    """Most bytes that this process has held; not getrusage's, which a child takes over from whatever started it."""
    with open("/proc/self/status", encoding="utf-8") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))
