"""The strategy that CONTRIBUTING shows, in a package of somebody else's: by command line, in a study, from Python."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from helpers import make_digits, make_source
from study_helpers import NEAR, TINY

import robust_transfer
from robust_transfer.data import to_pixels
from robust_transfer.run import Run

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
CODE = next(
    block for block in re.findall(r"^```python\n(.*?)^```", TEXT, re.M | re.S) if "STRATEGIES.register" in block
)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as an installer leaves it: the module, and metadata with the entry point."""
    site = tmp_path_factory.mktemp("site")
    (site / "my_package").mkdir()
    (site / "my_package" / "__init__.py").write_text("")
    (site / "my_package" / "class_means.py").write_text(CODE)
    info = site / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my_package\nVersion: 1.0\n")
    lines = re.search(r"^```toml\n(.*?)^```", TEXT, re.M | re.S)
    assert lines is not None
    group = lines[1].replace('[project.entry-points."', "[").replace('"]', "]").replace('"', "")
    (info / "entry_points.txt").write_text(group)
    return site


def command(package: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(package), str(Path(robust_transfer.__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-m", "robust_transfer.cli", *map(str, words)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done


def test_it_is_as_short_as_promised() -> None:
    assert 30 <= len(CODE.splitlines()) <= 45


def test_it_is_the_nearest_class_mean(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robust_transfer.strategies.STRATEGIES.register", lambda *_, **__: lambda cls: cls)
    spec = importlib.util.spec_from_file_location("class_means", package / "my_package" / "class_means.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # where annotations are looked up
    spec.loader.exec_module(module)
    strategy, source, task = module.ClassMeans(scale=3.0), make_source(), make_digits()
    made = strategy.adapt(source, task, Run(quiet=True))
    with torch.no_grad(), source.classifier.eval_mode(), made.classifier.eval_mode():
        z = source.classifier.features(to_pixels(task.train.images()))
        means = torch.stack([z[task.train.labels == k].mean(0) for k in range(10)])
        nearest = torch.cdist(z, means).argmin(1)
        assert torch.equal(made.classifier(to_pixels(task.train.images())).argmax(1), nearest)


def test_the_command_line_lists_and_uses_it(package: Path, tmp_path: Path) -> None:
    assert "class-means" in command(package, "list", "strategies").stdout
    words = ("transfer", "--source", "bundled", "--data", "builtin:digits", "--shots", "5", "--out", tmp_path / "run")
    command(package, *words, "--strategy", "class-means", "--set", "scale=2", "--quiet")
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    assert (card["method"], card["settings"]) == ("transfer:class-means", {"scale": 2.0})


def test_a_study_estimates_and_runs_it(package: Path, tmp_path: Path) -> None:
    strategies = {"means": {"strategy": "class-means", "each": {"scale": [1.0, 4.0]}}}
    recipe = {**TINY, "strategies": strategies, "grid": [{**NEAR, "strategy": "means"}], "scales": None}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe))
    words = ("study", tmp_path / "mine.yaml", "--out", tmp_path / "study", "--threads", "1")
    assert "2 results to make" in command(package, *words, "--dry-run").stdout
    command(package, *words, "--quiet")
    table = pd.read_parquet(tmp_path / "study" / "table.parquet")
    assert sorted(table["set.scale"]) == [1.0, 4.0]
    assert table["clean"].notna().all()
