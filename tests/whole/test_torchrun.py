"""Commands that take one process, started by torchrun with two: one of them works, or all are refused; nobody waits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cli_helpers import DIGITS

pytestmark = pytest.mark.slow


def torchrun(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Two processes; without three minutes' patience nobody would know of a hang."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launch, "-m", "robust_transfer.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)


def test_one_of_two_processes_evaluates_verifies_and_compares(source: Path, tmp_path: Path) -> None:
    out, cheap = (
        tmp_path / "evaluation",
        ("--red-flag-examples", "0", "--transfer-attack-examples", "0", "--keep-deltas"),
    )
    words = ("--attack", "fgsm", "--examples", "20", *cheap, "--threads", "1", "--quiet", "--json", "--out", out)
    done = torchrun("evaluate", source, *DIGITS, *words)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("process 1 of 2: evaluate takes one process, which is process 0") == 1
    assert json.loads(done.stdout) == json.loads((out / "evaluation.json").read_text()), (
        "one process has told its result"
    )
    for name, more in (("verify", (out, *DIGITS, source)), ("compare", (out, out, "--json"))):
        done = torchrun(name, *more)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count(f"process 1 of 2: {name} takes one process") == 1
        assert name == "compare" or done.stdout.count("the claim stands") == 1


def test_the_demo_refuses_several_processes(source: Path, tmp_path: Path) -> None:
    done = torchrun("demo", "--source", source, "--out", tmp_path / "demo", "--quiet")
    assert done.returncode != 0
    assert "the demo takes one process: start it without torchrun" in done.stderr
    assert not (tmp_path / "demo").exists()
