"""Splits that are read on demand: they are those that fit into memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from data_helpers import assert_same
from images import write_classes

from robust_transfer.data import load_task, split


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(folder))
    datasets.disable_progress_bars()
    return folder


def test_parquet_is_the_same_from_disk(parquet: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_memory = load_task(parquet)
    before = sorted(parquet.parent.rglob("*"))
    monkeypatch.setattr(split, "MEMORY_LIMIT", 0)
    assert not list(cache.rglob("*.arrow"))
    streamed = load_task(parquet)
    assert len(list(cache.rglob("*.arrow"))) == 2  # train and test, to be mapped into memory
    assert streamed.train.streamed
    assert not in_memory.train.streamed
    assert_same(in_memory, streamed)
    assert_same(in_memory.at_size(5), streamed.at_size(5))
    assert sorted(parquet.parent.rglob("*")) == before  # nothing is written beside the data
    task = load_task(parquet, shots=5)
    monkeypatch.undo()
    assert_same(task, load_task(parquet, shots=5))


def test_files_are_the_same_from_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_classes(tmp_path, {"cat": 40, "dog": 30})
    in_memory = load_task(tmp_path)
    monkeypatch.setattr(split, "MEMORY_LIMIT", 0)
    streamed = load_task(tmp_path)
    assert streamed.train.streamed
    assert_same(in_memory, streamed)


def test_the_hash_is_the_same_in_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_classes(tmp_path, {"cat": 6, "dog": 6})
    monkeypatch.setattr(split, "MEMORY_LIMIT", 0)
    here = load_task(tmp_path).train
    assert here.streamed
    program = (
        "import sys; from robust_transfer.data import load_task, split; split.MEMORY_LIMIT = 0;"
        "print(load_task(sys.argv[1]).train.hash)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    there = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert there.stdout.strip() == here.hash
