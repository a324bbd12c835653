"""The page on using a result: its script classifies with onnxruntime and without this package."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import make_source
from images import picture
from PIL import Image

from robust_transfer.exporting import export
from robust_transfer.prediction import predict
from robust_transfer.run import Run

PAGE = Path(__file__).parents[2] / "docs" / "using.md"


def script() -> str:
    [found] = [
        block
        for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        if "onnxruntime" in block
    ]
    return str(found)


def test_the_pages_script_says_what_predict_says(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    model, photos = make_source(), []
    for index in range(4):
        photos.append(tmp_path / f"{index}.png")
        Image.fromarray(picture(2, index, 20 + index)).resize((31, 20 + index)).save(photos[-1])
    export(model, "onnx", tmp_path)
    (tmp_path / "robust_transfer").mkdir()
    (tmp_path / "robust_transfer" / "__init__.py").write_text("raise ImportError('it is not to be used')\n")
    (tmp_path / "script.py").write_text(script(), encoding="utf-8")
    assert len([line for line in script().splitlines() if line]) <= 15
    done = subprocess.run(
        [sys.executable, "script.py", *map(str, photos)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    wanted = [
        f"{one.classes[0]} {100 * one.probabilities[0]:.1f} % {one.file}"
        for one in predict(model, photos, run=Run(quiet=True))
    ]
    assert (done.returncode, done.stdout.splitlines()) == (0, wanted), done.stderr
