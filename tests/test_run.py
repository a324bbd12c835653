"""Run: what it refuses, and that files are written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from robust_transfer import run as run_module
from robust_transfer.errors import ConfigError, OutputError
from robust_transfer.run import (
    Run,
    append_line,
    command_line,
    environment,
    write_atomically,
    write_json,
    write_text,
)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": -1}, "seed must be between 0"),
        ({"seed": 2**31}, "seed must be between 0"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"resume": True, "overwrite": True}, "give one of them"),
        ({"device": "gpu"}, "unknown device 'gpu': use auto, cpu, cuda, cuda:N or mps"),
        ({"device": "meta"}, "unknown device 'meta'"),
        ({"precision": "float16"}, "precision='float16'"),
        ({"sed": 1}, "did you mean 'seed'"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Run(**settings)


def test_devices_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert Run().torch_device() == torch.device("cpu")
    with pytest.raises(ConfigError, match="'cuda' was asked for, but PyTorch sees no CUDA device"):
        Run(device="cuda")
    with pytest.raises(ConfigError, match="'mps' was asked for"):
        Run(device="mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert Run(device="cuda:0").torch_device() == torch.device("cuda:0")
    assert Run().torch_device() == torch.device("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert Run().torch_device() == torch.device("cuda:1")
    with pytest.raises(ConfigError, match="'cuda:1' was asked for, but PyTorch sees only 1 CUDA device:"):
        Run(device="cuda:1")


def test_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.ones(2, 2)
    for has_amx, has_products, faster in [(1, 0, 0), (0, 1, 1), (0, 1, 0), (0, 0, 1)]:
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda has=has_amx: bool(has))
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has=has_products: bool(has))
        monkeypatch.setattr(run_module, "_faster_products", lambda faster=faster: bool(faster))
        auto = Run(device="cpu")
        assert auto.dtype() is (torch.bfloat16 if has_amx or (has_products and faster) else torch.float32)
        with auto.autocast():
            assert (x @ x).dtype is auto.dtype()
    with Run(device="cpu", precision="bfloat16").autocast():
        assert (x @ x).dtype is torch.bfloat16


@pytest.mark.parametrize("bfloat16", [0.5, 1.0, 2.0])
def test_products_are_timed(monkeypatch: pytest.MonkeyPatch, bfloat16: float) -> None:
    now = 0.0
    product = torch.Tensor.__matmul__

    def slow(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        nonlocal now
        now += bfloat16 if a.dtype is torch.bfloat16 else 1.0
        return product(a[:2], b[:, :2])

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    monkeypatch.setattr(torch.Tensor, "__matmul__", slow)
    assert run_module._faster_products.__wrapped__() is (bfloat16 < 0.6)


def test_threads_are_set() -> None:
    before = torch.get_num_threads()
    Run(threads=2)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


# ---------------------------------------------------------------- the output folder


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("old")
    return folder


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_nothing_is_created_before_the_first_write(tmp_path: Path) -> None:
    run = Run(out=tmp_path / "a" / "b")
    assert run.prepare_out() == tmp_path / "a" / "b"
    assert not (tmp_path / "a").exists()
    assert Run().prepare_out() is None


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("")
    with pytest.raises(OutputError, match="is a file: give a folder"):
        Run(out=path).prepare_out()


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "card.json")
    with pytest.raises(OutputError) as caught:
        Run(out=tmp_path).prepare_out()
    assert str(caught.value) == (
        f"the output folder {tmp_path} is not empty: give another, or --overwrite, or --resume"
    )
    assert files(tmp_path) == {"card.json"}


def test_overwrite_empties_a_run_folder_but_keeps_the_folder(tmp_path: Path) -> None:
    fill(tmp_path, "card.json", "model.safetensors", "config.yaml", "README.md", "state/state.safetensors")
    fill(tmp_path, ".card.json.0123456789ab", "state/.tmpAb12_Z", "cells/3/evaluation.json")
    inode = tmp_path.stat().st_ino
    run = Run(out=tmp_path, overwrite=True)
    run.check_out()
    assert files(tmp_path) >= {"card.json", "cells/3/evaluation.json"}, "a check removes nothing"
    run.prepare_out()
    assert list(tmp_path.iterdir()) == []
    assert tmp_path.stat().st_ino == inode


@pytest.mark.parametrize(
    "names",
    [
        ("config.yaml", "src/main.py"),
        ("config.yaml", "README.md"),
        ("card.json", "notes.txt"),
        ("card.json", "state/thesis.tex"),
        ("runs/a/card.json", "photo.jpg"),
    ],
)
def test_overwrite_leaves_alone_what_no_run_wrote(tmp_path: Path, names: tuple[str, ...]) -> None:
    fill(tmp_path, *names)
    with pytest.raises(OutputError, match=r"does not look like a run folder.*--overwrite does not empty it"):
        Run(out=tmp_path, overwrite=True).prepare_out()
    assert files(tmp_path) == set(names)


def test_overwrite_does_not_follow_links(tmp_path: Path) -> None:
    precious = fill(tmp_path / "precious", "card.json")
    out = fill(tmp_path / "out", "metrics.jsonl")
    (out / "link").symlink_to(precious)
    with pytest.raises(OutputError, match="no run wrote link"):
        Run(out=out, overwrite=True).prepare_out()
    assert files(precious) == {"card.json"}


def test_resume_takes_run_folders_only(tmp_path: Path) -> None:
    started = fill(tmp_path / "started", "state/state.safetensors")
    assert Run(out=started, resume=True).prepare_out() == started
    assert Run(out=tmp_path / "new", resume=True).prepare_out() == tmp_path / "new"
    project = fill(tmp_path / "project", "README.md", "runs/a/card.json")
    with pytest.raises(OutputError, match=r"does not look like a run folder, so --resume does not write to it"):
        Run(out=project, resume=True).prepare_out()


def test_only_the_main_process_looks_after_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    fill(tmp_path, "metrics.jsonl")
    assert Run(out=tmp_path).prepare_out() == tmp_path
    Run(out=tmp_path, overwrite=True).prepare_out()
    assert files(tmp_path) == {"metrics.jsonl"}


# ---------------------------------------------------------------- writing


def test_a_file_is_written_with_the_usual_permissions(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    write_json(path, {"b": [1, None]})
    assert json.loads(path.read_text()) == {"b": [1, None]}
    plain = tmp_path / "plain"
    plain.write_text("")
    write_atomically(tmp_path / "weights", lambda temporary: save_file({"a": torch.ones(2)}, str(temporary)))
    assert path.stat().st_mode == plain.stat().st_mode == (tmp_path / "weights").stat().st_mode


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


def test_places_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for write in (write_text, append_line):
        with pytest.raises(OutputError, match=r"cannot write .*Not a directory; choose another --out"):
            write(tmp_path / "file" / "folder" / "a.txt", "x")

    def read_only(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "write_text", read_only)  # root may write to every folder, so it is acted out
    with pytest.raises(OutputError, match=r"cannot write .*Permission denied; choose another --out"):
        write_text(tmp_path / "a.txt", "x")
    monkeypatch.setattr(Path, "iterdir", read_only)
    with pytest.raises(OutputError, match="Permission denied"):
        Run(out=tmp_path).check_out()


def test_json_has_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert files(tmp_path) == set()


# ---------------------------------------------------------------- the record


def test_the_environment_names_versions_but_no_host_and_no_path() -> None:
    record = environment()
    assert record["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert record["versions"]["python"].count(".") == 2
    assert record["hardware"]["threads"] == torch.get_num_threads()
    text = json.dumps(record)
    assert socket.gethostname() not in text
    assert str(Path.home()) not in text
    assert str(Path(__file__).parent.parent) not in text


def test_the_command_is_as_it_was_typed_but_for_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/robust-transfer", "transfer", "--data", "my images"])
    assert command_line() == "robust-transfer transfer --data 'my images'"
    monkeypatch.setattr(sys, "argv", [""])
    assert command_line() == "python"


def test_what_a_kill_in_the_first_write_leaves_is_no_folder_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / ".outcomes.parquet.0123456789ab").write_text("half")
    (tmp_path / ".card.json.0123456789ab").write_text("half")
    Run(out=tmp_path, resume=True).check_out()
    with pytest.raises(OutputError, match="not empty"):
        Run(out=tmp_path).check_out()
    (tmp_path / "path.safetensors").write_text("a probe's first file")
    Run(out=tmp_path, resume=True).check_out()
    (tmp_path / "path.safetensors").unlink()
    (tmp_path / "state" / "mine.txt").write_text("x")
    with pytest.raises(OutputError, match="does not look like a run folder"):
        Run(out=tmp_path, resume=True).check_out()
