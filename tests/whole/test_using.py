"""The page on using a result: its script classifies with onnxruntime and without this package."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import make_source
from images import picture
from PIL import Image

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
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


def reading(**how: Any) -> Checkpoint:
    """A network of 8 pixels that reads images in another way than ours do."""
    made = make_source()
    spec = replace(made.card.network, preprocessing=replace(made.preprocessing, **how))
    classifier = Classifier.build(spec)
    classifier.load_state_dict(made.classifier.state_dict())
    return Checkpoint(classifier.eval(), replace(made.card, network=spec))


@pytest.mark.parametrize(
    "how",
    [{}, {"resize": "crop", "short": 11, "interpolation": "bilinear"}, {"short": 11}],
    ids=["whole", "crop", "border"],
)
def test_the_pages_script_says_what_predict_says(how: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    model, photos = reading(**how), []
    for index, shape in enumerate([(31, 20), (31, 23), (20, 33), (9, 9)]):
        photos.append(tmp_path / f"{index}.png")
        Image.fromarray(picture(2, index, 20 + index)).resize(shape).save(photos[-1])
    export(model, "onnx", tmp_path)
    (tmp_path / "robust_transfer").mkdir()
    (tmp_path / "robust_transfer" / "__init__.py").write_text("raise ImportError('it is not to be used')\n")
    (tmp_path / "script.py").write_text(script(), encoding="utf-8")
    assert len([line for line in script().splitlines() if line]) <= 16
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
