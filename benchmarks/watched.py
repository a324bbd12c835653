"""Run a command and record the time of its first output, its duration, and its peak memory.

python -I -S benchmarks/watched.py COMMAND ...

A process of its own, for what a child's peak memory is said to be is at least that of the process that started it: this one
imports next to nothing. One line of JSON: seconds to the first byte on either stream, seconds to the end, of CPU time, MB.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time


def watch(command: list[str]) -> dict[str, float | None]:
    begun, first = time.perf_counter(), None
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert child.stdout is not None
    said = b""
    while more := os.read(child.stdout.fileno(), 1 << 16):
        first = first or time.perf_counter() - begun
        said += more
    _, status, used = os.wait4(child.pid, 0)
    whole = time.perf_counter() - begun
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{' '.join(command)} ended with status {child.returncode}: {said.decode(errors='replace')[-2000:]}")
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    cpu = used.ru_utime + used.ru_stime
    return {"first": first, "whole": whole, "cpu": cpu, "megabytes": used.ru_maxrss / unit}


if __name__ == "__main__":
    print(json.dumps(watch(sys.argv[1:])))
