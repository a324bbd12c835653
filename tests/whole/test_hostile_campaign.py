"""The harness of hostile files sees what it looks for: each kind of fault, planted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PLANTED = """
import json, os, pickle, socket, subprocess, sys, time
from pathlib import Path
from hostile_case import Case
from hostile_child import tried
from robust_transfer.errors import DataError, DivergedError

top = Path(sys.argv[1])

class Touches:
    def __reduce__(self):
        return os.system, ("touch canary",)

def refused():
    raise DataError("it is no image: give another")

def unclear():
    raise DivergedError("lost")

def leave(name):
    Path(name).write_text("x")

def connect():
    try:
        socket.create_connection(("192.0.2.1", 80), timeout=0.01)
    except OSError:
        pass

def spin():
    while True:
        pass

RUNS = {
    "read": lambda: print("read"),
    "refused": refused,
    "traceback": lambda: 1 / 0,
    "hang": spin,
    "memory": lambda: bytearray(1 << 30),
    "crash": lambda: os.kill(os.getpid(), 11),
    "code executed": lambda: pickle.loads(pickle.dumps(Touches())),
    "a process": lambda: subprocess.run(["true"]),
    "an exec": lambda: exec("canary = 1"),
    "file outside": lambda: leave(top / "out"),
    "a folder outside": lambda: os.mkdir(top / "folder"),
    "address outside": connect,
    "shown raw": lambda: print("\\x1b[2J"),
    "unclear": unclear,
    "a canary": lambda: leave("canary.txt"),
    "inside": lambda: leave("x"),
}
cases = [Case("planted", name, lambda folder: (), run=run) for name, run in RUNS.items()]
checked = lambda folder, shown: "found" if (folder / "y").exists() else None
cases.append(Case("planted", "must be read", lambda folder: (), "read", run=refused))
cases.append(Case("planted", "checked", lambda folder: (), run=lambda: leave("y"), check=checked))
(top / "cases").mkdir()
outcomes = tried(cases, top / "cases", memory=1 << 28, seconds=1.0)
print(json.dumps({each.case.name: each.kind for each in outcomes}))
"""
WANTED = {
    "a process": "code executed",
    "an exec": "code executed",
    "a canary": "code executed",
    "a folder outside": "file outside",
    "inside": "read",
    "must be read": "wrong",
    "checked": "wrong",
}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
def test_each_planted_fault_is_seen(tmp_path: Path) -> None:
    campaigns = Path(__file__).parents[2] / "campaigns"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(campaigns), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", PLANTED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) > 15
    assert found == {name: WANTED.get(name, name) for name in found}
