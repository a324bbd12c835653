"""The cache folder: torch.hub's, locked, with records that are checked."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
import time
from pathlib import Path

import pytest
import torch

from robust_transfer.download.cache import (
    Record,
    cache_folder,
    locked,
    read_record,
    record_path,
    sha256_of,
    storing,
    storing_message,
    write_record,
)
from robust_transfer.errors import CheckpointError, OutputError


def test_the_folder_is_torch_hubs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "hub" / "checkpoints"
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "other"))  # as torch.hub.set_dir does
    assert cache_folder() == tmp_path / "other" / "checkpoints"


def test_records(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(b"weights")
    assert read_record(path) is None
    write_record(path, "https://a.org/x.pt", sha256_of(path), "theirs.pt")
    record = read_record(path)
    assert record is not None
    assert record.sha256 == hashlib.sha256(b"weights").hexdigest()
    assert (record.address, record.size, record.name) == ("https://a.org/x.pt", 7, "theirs.pt")
    assert record.fits(path)
    os.utime(path, ns=(0, 0))
    assert not record.fits(path)
    assert [each.name for each in sorted(tmp_path.iterdir())] == ["x.pt", "x.pt.json"]
    for damaged in ("{", "[]", json.dumps({"address": "x"})):
        record_path(path).write_text(damaged)
        with pytest.raises(CheckpointError, match=r"the record /.*x\.pt\.json of a download is damaged: delete it"):
            read_record(path)


@pytest.mark.usefixtures("told")
def test_one_holds_a_file_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, order = tmp_path / "new" / "x.pt", list[str]()

    def second() -> None:
        with locked(path, hidden=False) as writable:
            order.append(f"second {writable}")

    with locked(path, hidden=False):
        other = threading.Thread(target=second)
        other.start()
        time.sleep(0.2)
        order.append("first")
    other.join()
    assert order == ["first", "second True"]
    assert "another process is downloading x.pt: waiting for it" in capsys.readouterr().err
    assert list(path.parent.iterdir()) == [], "the lock is gone"


def test_a_folder_that_nobody_may_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made by a lock that fails: whoever runs the tests may be able to write everywhere."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("robust_transfer.download.cache.FileLock.acquire", refuse)
    path = tmp_path / "x.pt"
    with (
        pytest.raises(OutputError, match=r"cannot write /.*x\.pt \(Read-only file system\): set TORCH_HOME"),
        locked(path, True),
    ):
        pass
    path.write_bytes(b"weights")
    with locked(path, True) as writable:
        assert not writable


def test_sentences_for_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    for code in (errno.ENOSPC, errno.EDQUOT):
        assert storing_message(path, OSError(code, "full")).startswith(
            f"the disk is full, so {path} was not downloaded"
        )
    with (
        pytest.raises(OutputError, match=r"cannot write .* \(Permission denied\): set TORCH_HOME to a folder that can"),
        storing(path),
    ):
        raise OSError(errno.EACCES, "Permission denied")


def test_a_record_is_told_by_its_fields() -> None:
    assert set(Record.__dataclass_fields__) == {"address", "sha256", "size", "modified_ns", "name", "since"}
