"""The study of CIFAR-10, small: a tiny source, digits, every group of cells, and what is published of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from helpers import make_digits

import robust_transfer as rt
from robust_transfer.pretraining import Fast, Natural
from robust_transfer.run import Run

SCRIPTS = Path(__file__).parents[2] / "scripts"
# a network that has learnt something: from features of untrained ones, whose scale is anything, training diverges
BRIEF: dict[str, Any] = {"epochs": 4.0, "batch_size": 32, "learning_rate": 0.1, "augment": False}


def call(script: str, *arguments: str | Path) -> str:
    command = [sys.executable, str(SCRIPTS / script), *map(str, arguments)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert child.returncode == 0, child.stderr[-3000:]
    return child.stdout


def study(out: Path, *more: str | Path) -> str:
    where: list[str | Path] = [
        "--source",
        out / "source",
        "--twin",
        out / "twin",
        "--data",
        "builtin:digits",
        "--out",
        out / "runs",
    ]
    return call("cifar10.py", *where, "--plan", "quick", *more)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study")
    for method, name in ((Fast(**BRIEF), "source"), (Natural(**BRIEF), "twin")):
        method(make_digits(), network="wrn_16_1", threat="linf:8/255", run=Run(out=out / name, quiet=True, threads=1))
    return out


@pytest.mark.slow
def test_the_whole_study(made: Path) -> None:
    printed = study(made)
    cells = {line.removesuffix(" done") for line in printed.splitlines()}
    assert len(cells) == 6 + 2 + 3 + 12 + 2
    assert study(made) == ""  # nothing is made twice

    docs = made / "docs"
    text = call("cifar10_table.py", "--runs", made / "runs", "--out", docs)
    published = json.loads((docs / "cifar10.json").read_text())
    assert set(published["cells"]) == cells
    assert published["plan"]["seeds"] == [0, 1]
    for expected in ("fine-tuning from the robust source", "from the natural twin", "less the constant row",
                     "less adversarial training from scratch", "chosen on val; 2 seeds), clean accuracy above"):  # fmt: skip
        assert expected in text
    assert text.count("| constant classifier |") == 3
    assert (docs / "cifar10.svg").read_text().startswith("<svg")

    # the figures are those of the outcomes, and the chosen ones are the criterion's
    right = pd.read_parquet(docs / "cifar10_outcomes.parquet")
    assert right.shape == (40, 3 * len(cells))
    for name, cell in published["cells"].items():
        assert right[f"{name}/clean"].mean() == cell["evaluation"]["linf-8-255"]["clean_accuracy"]["value"]
        assert right[f"{name}/linf-4-255"].mean() == cell["evaluation"]["linf-4-255"]["robust_accuracy"]["value"]
    for method, chosen in published["found"]["chosen"].items():
        vals = {n: c["val"] for n, c in published["cells"].items() if n.startswith(f"curve/{method}/") and "val" in c}
        enough = 0.9 * max(val["robust_accuracy"] for val in vals.values())
        best = max(val["clean_accuracy"] for val in vals.values() if val["robust_accuracy"] >= enough)
        assert vals[chosen]["robust_accuracy"] >= enough
        assert vals[chosen]["clean_accuracy"] == best
        assert set(cells) >= {chosen, chosen.removesuffix("0") + "1"}

    # what is published is left out, on another machine too, and stays published
    other = made / "runs2"
    (made / "runs").rename(other)
    assert study(made, "--done", docs) == ""
    call("cifar10_table.py", "--runs", made / "runs", "--out", docs)
    assert json.loads((docs / "cifar10.json").read_text()) == published


def test_a_source_for_images_of_twice_the_side_computes_the_same(tmp_path: Path) -> None:
    """Each image of 64 pixels gives what its means over 2x2 pixels give the source."""
    call("enlarge.py", "bundled", "--out", tmp_path / "enlarged")
    small, large = (rt.load_source(name) for name in ("bundled", tmp_path / "enlarged"))
    x = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    means = x.reshape(4, 3, 32, 2, 32, 2).mean((3, 5))
    with torch.no_grad():
        expected, found = small.classifier(means), large.classifier(x)
    assert torch.allclose(found, expected, atol=2e-4)
    assert (large.preprocessing.size, large.card.threat) == (64, small.card.threat)
    assert large.trained_on is not None
    assert large.card.metrics == {}
