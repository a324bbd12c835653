"""Installed packages fit together, or one sentence says so."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

PAIR = f"torch {version('torch')} and torchvision {version('torchvision')}"


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, timeout=120
    )


def test_torch_and_torchvision_match() -> None:
    """torchvision's compiled operators load only beside the torch that they were built for."""
    try:
        import torchvision

        kept = torchvision.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([1.0]), 0.5)
    except (ImportError, OSError, RuntimeError) as error:
        pytest.fail(f"{PAIR} do not match: install both at once\n{error}")
    assert len(kept) == 1


PROBE = ["transfer", "--source", "bundled", "--data", "builtin:digits", "--shots", "2", "--strategy", "linear-probe"]
FOREIGN = ["pretrain", "--data", "builtin:digits", "--network", "resnet18", "--method", "natural", "--input-size", "32"]
SLOW_TO_LOAD = ("timm", "torchvision", "sklearn", "matplotlib", "pandas", "accelerate")
CODE = """
import sys
from robust_transfer.cli import main
sys.argv[1:] = {probe}
try:
    main()
except SystemExit as end:
    print("probe:", end.code)
print("loaded:", [name for name in {slow} if name in sys.modules])
sys.argv[1:] = {foreign}
main()
"""


def test_only_a_foreign_network_needs_torchvision(tmp_path: Path) -> None:
    """A torchvision that was built for another torch: a network of ours does not notice, for timm's one sentence says so."""
    (tmp_path / "torchvision").mkdir()
    broken = 'raise RuntimeError("operator torchvision::nms does not exist")\n'
    (tmp_path / "torchvision" / "__init__.py").write_text(broken)
    probe, foreign = (
        [*words, "--out", str(tmp_path / name), "--quiet"] for words, name in ((PROBE, "a"), (FOREIGN, "b"))
    )
    child = python(CODE.format(probe=probe, foreign=foreign, slow=SLOW_TO_LOAD), PYTHONPATH=str(tmp_path))
    assert child.stdout == "probe: 0\nloaded: []\n", child.stderr
    assert (tmp_path / "a" / "card.json").exists()
    assert child.returncode == 2
    said = [line for line in child.stderr.splitlines() if not line.startswith("note: ")]
    assert len(said) == 1
    assert said[0].startswith(f"robust-transfer: {PAIR} do not work together (operator torchvision::nms")
    assert said[0].endswith("pip install --upgrade torch torchvision")
