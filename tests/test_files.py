"""Files written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from robust_transfer.errors import OutputError
from robust_transfer.files import append_line, write_atomically, write_json, write_text
from robust_transfer.run import Run


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_a_file_is_written_with_the_usual_permissions(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    write_json(path, {"b": [1, None]})
    assert json.loads(path.read_text()) == {"b": [1, None]}
    plain = tmp_path / "plain"
    plain.write_text("")
    write_atomically(tmp_path / "weights", lambda temporary: save_file({"a": torch.ones(2)}, str(temporary)))
    assert path.stat().st_mode == plain.stat().st_mode == (tmp_path / "weights").stat().st_mode


def test_permissions_are_not_asked_for_by_setting_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a moment files of other threads would be anybody's."""
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the process's own permissions were changed"))
    write_text(tmp_path / "a.txt", "x")
    write_atomically(tmp_path / "weights", lambda temporary: save_file({"a": torch.ones(2)}, str(temporary)))


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def fails_half_way(path: Path) -> None:
    path.write_bytes(b"half")
    full_disk()


def fails_for_real(path: Path) -> None:
    path.write_bytes(b"half")
    Path("/dev/full").write_bytes(b"x" * 10_000)


@pytest.mark.parametrize("write", [full_disk, fails_half_way, fails_for_real])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(OutputError, match=r"the disk is full, so .*a.txt was not written .*: free some space"):
        write_atomically(path, write)
    assert path.read_text() == "old"
    assert files(tmp_path) == {"a.txt"}


@pytest.mark.parametrize("step", ["replace", "fsync", "chmod"])
def test_a_full_disk_at_the_last_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with monkeypatch.context() as patched:
        patched.setattr(os, step, full_disk)
        with pytest.raises(OutputError, match="the disk is full"):
            write_text(path, "new")
    assert path.read_text() == "old"
    assert files(tmp_path) == {"a.txt"}


def test_a_disk_that_is_full_for_safetensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(path: Path) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.raises(OutputError, match="the disk is full"):
        write_atomically(tmp_path / "a", write)


def test_another_error_is_no_output_error(tmp_path: Path) -> None:
    def write(path: Path) -> None:
        path.write_text("half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_atomically(tmp_path / "a", write)
    assert files(tmp_path) == set()


def test_a_log_on_a_full_disk() -> None:
    with pytest.raises(OutputError, match="the disk is full"):
        append_line(Path("/dev/full"), "x" * 10_000)


def test_a_line_that_was_cut_short_does_not_take_the_next_one_with_it(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    append_line(log, "one")
    log.write_bytes(log.read_bytes() + b"hal")
    append_line(log, "two")
    append_line(log, "three")
    assert log.read_text() == "one\nhal\ntwo\nthree\n"


def test_places_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for write in (write_text, append_line):
        with pytest.raises(OutputError, match=r"cannot write .*Not a directory; choose another --out"):
            write(tmp_path / "file" / "folder" / "a.txt", "x")

    def read_only(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "write_bytes", read_only)  # root may write to every folder, so it is acted out
    with pytest.raises(OutputError, match=r"cannot write .*Permission denied; choose another --out"):
        write_text(tmp_path / "a.txt", "x")
    monkeypatch.setattr(Path, "iterdir", read_only)
    with pytest.raises(OutputError, match="Permission denied"):
        Run(out=tmp_path).check_out()


def test_json_has_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert files(tmp_path) == set()
