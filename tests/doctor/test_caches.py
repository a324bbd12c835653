"""Cache folders and their sizes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from robust_transfer.doctor.caches import caches


def test_sizes_are_those_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    (folder / "below").mkdir(parents=True)
    (folder / "a.pt").write_bytes(b"x" * 1000)
    (folder / "below" / "b.pt").write_bytes(b"x" * 24)
    large = tmp_path / "large"
    large.write_bytes(b"x" * 10_000)
    os.symlink(large, folder / "link")
    found = {cache.holds: cache for cache in caches()}["downloaded weights"]
    assert found.folder == str(folder)
    assert (found.files, found.move) == (3, "TORCH_HOME")
    assert 1024 < found.size < 1024 + 1000  # the link itself, not what it leads to


def test_folders_that_are_not_there_are_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "nowhere"))
    found = {cache.holds: cache for cache in caches()}["downloaded weights"]
    assert (found.size, found.files) == (0, 0)
    assert not (tmp_path / "nowhere" / "hub" / "checkpoints").exists()
