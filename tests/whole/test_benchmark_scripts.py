"""The scripts: what their options mean, what watches a command, and (slow) that each ends with its table."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from common import parsed
from table import read

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ALLOCATE = "import time; kept = bytearray(150 << 20); print('here', flush=True); time.sleep(0.3)"


def watched(*command: str) -> subprocess.CompletedProcess[str]:
    watch = [sys.executable, "-I", "-S", str(BENCHMARKS / "watched.py")]
    return subprocess.run([*watch, *command], capture_output=True, text=True, timeout=60, check=False)


def test_a_command_is_watched_and_not_the_process_that_asks() -> None:
    """This process holds PyTorch, hundreds of MB, which a child's peak must not be taken to be."""
    small, large = (json.loads(watched(sys.executable, "-c", code).stdout) for code in ("print()", ALLOCATE))
    assert 2 < small["megabytes"] < 60
    assert 150 < large["megabytes"] - small["megabytes"] + 10 < 180
    assert 0 < large["first"] <= large["whole"] - 0.3


def test_a_command_that_says_nothing_or_fails() -> None:
    assert json.loads(watched(sys.executable, "-c", "").stdout)["first"] is None
    failed = watched(sys.executable, "-c", "import sys; print('told why'); sys.exit(3)")
    assert failed.returncode == 1
    assert "ended with status 3: told why" in failed.stderr


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], (30, "a,b")),
        (["--quick"], (5, "a")),
        (["--quick", "--steps", "7"], (7, "a")),
        (["--steps", "5"], (5, "a,b")),
    ],
)
def test_quick_changes_defaults_only(monkeypatch: pytest.MonkeyPatch, words: list[str], found: tuple[int, str]) -> None:
    monkeypatch.setattr(sys, "argv", ["script", *words])
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--networks", default="a,b")
    given = parsed(parser, steps=5, networks="a")
    assert (given.steps, given.networks) == found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "more", "parts"),
    [
        ("startup.py", (), 1),
        ("training.py", ("--steps", "2"), 2),
        ("transfer.py", ("--steps", "2", "--probe-images", "500"), 3),
        ("attacks.py", ("--parts", "peak,pgd,suites,strong", "--examples", "4", "--seeds", "1", "--repeats", "1"), 5),
        ("overview.py", ("--images", "8"), 8),
        ("scale.py", ("--run-cells", "12"), 8),
        ("photos.py", ("--images", "50"), 1),
    ],
)
def test_a_quick_run_ends_with_its_table(script: str, more: tuple[str, ...], parts: int, tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / script), "--quick", *more, "--rows", str(tmp_path / "rows")]
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    [report] = read(tmp_path / "rows")
    assert report.command.startswith(f"{script} --quick")
    assert "--rows" not in report.command
    assert report.conditions["OMP_WAIT_POLICY"] == "PASSIVE"
    lines = done.stdout.partition("| what |")[2].splitlines()
    assert sum(bool(re.match(r"\| \S", line)) for line in lines) - 1 == len({row.what for row in report.rows}) == parts
    assert all(min(row.values) > 0 for row in report.rows)
    for row in report.rows:
        assert any(f"| {row.name} |" in line for line in lines)


@pytest.mark.slow
def test_rows_of_several_commands_make_one_table(tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    for more in ("--steps 1", "--steps 2"):
        command = [sys.executable, str(BENCHMARKS / "training.py"), "--quick", *more.split(), "--rows", str(rows)]
        subprocess.run(command, check=True, capture_output=True, timeout=600)
    command = [sys.executable, str(BENCHMARKS / "table.py"), str(rows)]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert said.startswith(
        "`python benchmarks/training.py --quick --steps 1`, `python benchmarks/training.py --quick --steps 2`:"
    )
    assert said.count("| what |") == 1
    assert "| training wrn_16_2 on 128 images |" in said
    assert "| training wrn_16_2 on 256 images |" in said
