"""What is installed fits together; where it does not, one sentence says so."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

PAIR = f"torch {version('torch')} and torchvision {version('torchvision')}"


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, timeout=120
    )


def test_torch_and_torchvision_match() -> None:
    """torchvision's compiled operators load only beside the torch that they were built for."""
    use = "torchvision.ops.nms(torch.tensor([[0., 0., 1., 1.]]), torch.tensor([1.]), 0.5)"
    child = python(f"import torch, torchvision; assert len({use}) == 1")
    assert child.returncode == 0, f"{PAIR} do not match: install both at once\n{child.stderr[-500:]}"


PROBE = ["transfer", "--source", "bundled", "--data", "x", "--strategy", "lwf", "--out", "x"]


def test_a_pair_that_does_not_match_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    broken = 'raise RuntimeError("operator torchvision::nms does not exist")\n'
    (tmp_path / "torchvision" / "__init__.py").write_text(broken)
    child = python(f"import sys; sys.argv[1:] = {PROBE}; from robust_transfer.cli import main; main()",
                   PYTHONPATH=str(tmp_path))  # fmt: skip
    assert child.returncode == 2
    assert child.stderr.startswith(f"robust-transfer: {PAIR} do not work together (operator torchvision::nms")
    assert child.stderr.rstrip().endswith("pip install --upgrade torch torchvision")
    assert child.stderr.count("\n") == 1
