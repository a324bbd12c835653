"""Stored results of trials: kept, added to, removed with the compiler's folder, and never an obstacle."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import pytest

from robust_transfer import files, remembered
from robust_transfer.compiling import VARIABLE
from robust_transfer.remembered import recall, remember


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "compiled"))
    return tmp_path / "compiled"


def test_findings_are_kept_and_added_to(folder: Path) -> None:
    assert recall("a") == {}
    remember("a", gains=True)
    remember("a", sizes=[4, 8])
    remember("b", gains=False)
    assert recall("a") == {"gains": True, "sizes": [4, 8]}
    assert recall("b") == {"gains": False}
    shutil.rmtree(folder)
    assert recall("a") == {}, "what was compiled is gone, and so is what is known of it"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff"])
def test_what_cannot_be_read_is_not_known(folder: Path, content: bytes) -> None:
    remember("a", gains=True)
    (path,) = folder.rglob("a.json")
    path.write_bytes(content)
    assert recall("a") == {}
    remember("a", gains=False)
    assert recall("a") == {"gains": False}


def test_without_a_folder_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "keep_compiled", lambda: None)
    remember("a", gains=True)
    assert recall("a") == {}


def test_a_folder_that_cannot_be_written_is_no_error(folder: Path) -> None:
    folder.write_text("a file")
    remember("a", gains=True)
    assert recall("a") == {}


@pytest.mark.parametrize("error", [errno.EROFS, errno.ENOSPC])
def test_a_disk_that_takes_nothing_is_no_error(folder: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    folder.mkdir()

    def refuse(*_: Any) -> None:
        raise OSError(error, "refused")

    monkeypatch.setattr(files, "_write", refuse)
    remember("a", gains=True)
    assert recall("a") == {}
