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


COMMANDS = """
import json, sys
from robust_transfer.cli import main
for words in json.loads(sys.argv[1]):
    sys.argv[1:] = words
    try:
        main()
    except SystemExit as end:
        assert not end.code, (words, end.code)
    print("END OF A COMMAND")
"""


@pytest.fixture(scope="module")
def done(package: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """What each of four commands says, and the folder that they write into: one process, for it takes seconds to begin."""
    out = tmp_path_factory.mktemp("done")
    strategies = {"means": {"strategy": "class-means", "each": {"scale": [1.0, 4.0]}}}
    grid = [{**NEAR, "strategy": "means"}]
    (out / "mine.yaml").write_text(yaml.safe_dump({**TINY, "strategies": strategies, "grid": grid, "scales": None}))
    transfer = ["transfer", "--source", "bundled", "--data", "builtin:digits", "--shots", "5", "--out", f"{out}/run"]
    study = ["study", f"{out}/mine.yaml", "--out", f"{out}/study", "--threads", "1"]
    commands = [
        ["list", "strategies"],
        [*transfer, "--strategy", "class-means", "--set", "scale=2", "--quiet"],
        [*study, "--dry-run"],
        [*study, "--quiet"],
    ]
    path = os.pathsep.join([str(package), str(Path(robust_transfer.__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "200"}
    child = subprocess.run(
        [sys.executable, "-c", COMMANDS, json.dumps(commands)], capture_output=True, text=True, env=environment
    )
    assert child.returncode == 0, child.stderr
    said = child.stdout.split("END OF A COMMAND\n")
    assert len(said) == len(commands) + 1
    return said, out


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


def test_the_command_line_lists_and_uses_it(done: tuple[list[str], Path]) -> None:
    said, out = done
    assert "class-means" in said[0]
    card = json.loads((out / "run" / "card.json").read_text())
    assert (card["method"], card["settings"]) == ("transfer:class-means", {"grid": 1, "mirror": False, "scale": 2.0})


def test_a_study_estimates_and_runs_it(done: tuple[list[str], Path]) -> None:
    said, out = done
    assert "2 results to make" in said[2]
    table = pd.read_parquet(out / "study" / "table.parquet")
    assert sorted(table["set.scale"]) == [1.0, 4.0]
    assert table["clean"].notna().all()
