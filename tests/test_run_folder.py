"""Run folders: what may be written to, and what is emptied."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from robust_transfer.errors import OutputError
from robust_transfer.files import write_text
from robust_transfer.manifest import FILE, LOCK
from robust_transfer.run import Run


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
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    fill(tmp_path, "metrics.jsonl")
    assert Run(out=tmp_path).prepare_out() == tmp_path
    Run(out=tmp_path, overwrite=True).prepare_out()
    assert files(tmp_path) == {"metrics.jsonl"}


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


HOLDS = """
import sys, time
from pathlib import Path
from robust_transfer.run_folder import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    """Another process that holds ``folder``."""
    child = subprocess.Popen([sys.executable, "-c", HOLDS, str(folder)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


def test_a_folder_has_one_writer_until_that_dies(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "a"
    child = holder(out)
    try:
        for _ in range(2):
            with pytest.raises(OutputError, match="another process is writing to"), Run(out=out).at_work():
                pass
        with Run(out=tmp_path / "runs" / "b").at_work():
            pass
    finally:
        child.kill()  # as the kernel would: nothing is tidied up
        child.communicate()
    with Run(out=out).at_work():
        Run(out=out).check_out()  # what the dead has left does not count
        (out / "card.json").write_text("{}")
    assert files(tmp_path) == {"runs/a/card.json"}


def test_holding_leaves_nothing_behind(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "a"
    with Run(out=out).at_work(), Run(out=out).at_work():
        assert (out / LOCK).exists()
    assert not list(tmp_path.iterdir())


def test_the_first_write_empties_the_folder_and_keeps_the_lock(tmp_path: Path) -> None:
    old = files(fill(tmp_path, "card.json", "model.safetensors", "state/state.safetensors"))
    run = Run(out=tmp_path, overwrite=True)
    with run.at_work():
        run.prepare_out()
        assert files(tmp_path) == {*old, LOCK}, "what fails from here on costs nothing"
        write_text(tmp_path / "card.json", "new")
        assert files(tmp_path) == {"card.json", FILE, LOCK}
        write_text(tmp_path / "evaluation.json", "new")
    assert files(tmp_path) == {"card.json", "evaluation.json", FILE}


def test_what_killed_writes_left_goes_with_the_next_holder(tmp_path: Path) -> None:
    with Run(out=tmp_path).at_work():
        write_text(tmp_path / "model.safetensors", "new")
        write_text(tmp_path / "state" / "state.safetensors", "new")
    dead = [".model.safetensors.0123456789ab", "state/.state.safetensors.0123456789ab", f".{FILE}.0123456789ab"]
    others = [".tmpAb12_Z", ".notes.0123456789ab", ".model.safetensors.bak.0123456789ab", ".model.safetensors.xyz"]
    fill(tmp_path, *dead, *others)
    before = files(tmp_path)
    with Run(out=tmp_path).at_work():
        assert files(tmp_path) == (before - set(dead)) | {LOCK}


def test_a_run_that_writes_nothing_removes_nothing(tmp_path: Path) -> None:
    old = files(fill(tmp_path, "card.json", "model.safetensors"))
    run = Run(out=tmp_path, overwrite=True)
    with run.at_work():
        run.prepare_out()
    assert files(tmp_path) == old


def test_another_thread_is_refused_as_another_process_is(tmp_path: Path) -> None:
    said: list[str] = []

    def write() -> None:
        try:
            with Run(out=tmp_path / "a").at_work():
                said.append("held")
        except OutputError as error:
            said.append(str(error))

    with Run(out=tmp_path / "a").at_work():
        other = threading.Thread(target=write)
        other.start()
        other.join()
    write()
    assert "another process is writing" in said[0]
    assert said[1] == "held"


def test_what_cannot_be_written_to_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(FileLock, "_acquire", refuse)  # root may write anywhere
    with Run(out=tmp_path, resume=True).at_work():
        pass
