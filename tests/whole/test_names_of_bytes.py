"""Files and folders whose names are no UTF-8, or are told in an encoding that lacks their letters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import QUIET, make_source
from images import encoded, picture, write_classes, write_parquet

import robust_transfer as rt
from robust_transfer.data import load_task

if sys.platform != "linux":
    pytest.skip("only Linux has such names everywhere", allow_module_level=True)

ODD = os.fsdecode(b"x\xfd [1] %s")  # what a command line makes of these bytes
PETS = {"cat": 12, "dog\n2": 12}


def test_a_run_and_its_evaluation_in_such_a_folder(tmp_path: Path) -> None:
    data, out = write_classes(tmp_path / ODD / "data", PETS), tmp_path / ODD / "run"
    (data / "cat" / os.fsdecode(b"\xfe.t\xffxt")).write_text("x")
    task = load_task(data)
    assert task.class_names == ("cat", "dog\n2")
    run = rt.Run(quiet=True, out=out)
    model = rt.transfer(make_source(), task, rt.FineTune(epochs=1, batch_size=8), run=run)
    assert "left out: 1 files with the extension" in json.loads((out / "card.json").read_text())["data"]["notes"][0]
    found = rt.evaluate(
        model, task.test, attack="fgsm", run=run, keep_deltas=True, red_flag_examples=0, transfer_attack_examples=0
    )
    assert not rt.verify(out, model, task.test, run=QUIET).problems
    go_on = rt.Run(quiet=True, out=out, resume=True)
    again = rt.evaluate(model, task.test, attack="fgsm", run=go_on, red_flag_examples=0, transfer_attack_examples=0)
    assert again.robust_accuracy == found.robust_accuracy
    assert rt.compare(out, out).clean.difference.value == 0
    assert rt.load_source(out).hash == model.hash


def test_a_path_of_heads_and_features_that_are_kept(tmp_path: Path) -> None:
    task = load_task(write_classes(tmp_path / "data", {"cat": 12, "dog": 12}))
    runs = [rt.Run(quiet=True, out=tmp_path / f"{i}{ODD}", cache=tmp_path / ODD) for i in range(2)]
    made = [rt.transfer(make_source(), task, rt.LinearProbe(), run=run) for run in runs]
    assert made[0].hash == made[1].hash


def test_parquet_files_of_such_a_name(tmp_path: Path) -> None:
    for start, split in enumerate(("train", "test")):
        contents = [encoded(picture(start, i)) for i in range(8)]
        plain = write_parquet(tmp_path / f"{split}.parquet", [0, 1] * 4, contents=contents)
        (tmp_path / ODD).mkdir(exist_ok=True)
        plain.rename(tmp_path / ODD / plain.name)
    task = load_task(tmp_path / ODD, val=0)
    assert torch.bincount(task.train.labels).tolist() == [4, 4]


def test_class_names_are_the_same_where_the_system_speaks_ascii(tmp_path: Path) -> None:
    data = write_classes(tmp_path / "data", {"\u732b": 4, "caf\u00e9": 4, "dog": 4})
    program = f"from robust_transfer.data import load_task; print(ascii(load_task({str(data)!r}).class_names))"
    ascii_only = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    told = subprocess.run([sys.executable, "-c", program], env=ascii_only, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == ascii(("caf\u00e9", "dog", "\u732b"))
