"""Manifests: a file that the project wrote is known whatever its name, one that it did not write never."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from robust_transfer.errors import OutputError
from robust_transfer.files import append_line, write_atomically, write_json, write_text
from robust_transfer.manifest import FILE, Manifest
from robust_transfer.run import Run


def run_that_writes(out: Path, *names: str, overwrite: bool = False) -> None:
    run = Run(out=out, overwrite=overwrite)
    with run.at_work():
        run.prepare_out()
        for name in names:
            write_text(out / name, "written")


def noted(folder: Path) -> list[str]:
    names: list[str] = json.loads((folder / FILE).read_text())
    return names


def test_every_write_is_noted_once_and_only_while_the_folder_is_held(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Run(out=out).at_work(), Run(out=out).at_work():
        append_line(out / "metrics.jsonl", "{}")
        append_line(out / "metrics.jsonl", "{}")
        write_json(out / "state" / "new-in-this-version.json", {})
        write_text(tmp_path / "elsewhere.txt", "x")
    write_text(out / "after.txt", "x")
    assert noted(out) == ["metrics.jsonl", "state/new-in-this-version.json"]


def test_the_note_comes_before_the_file(tmp_path: Path) -> None:
    """A kill between the two leaves no file that --overwrite does not know."""
    seen: list[str] = []

    def killed(temporary: Path) -> None:
        seen.extend(noted(tmp_path / "out"))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Run(out=tmp_path / "out").at_work():
        write_atomically(tmp_path / "out" / "new.bin", killed)
    assert seen == ["new.bin"]
    assert not (tmp_path / "out").exists(), "nothing was written, so nothing is left"


def test_what_a_kill_after_the_first_note_leaves_can_be_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('["new.bin"]')
    Run(out=tmp_path, resume=True).check_out()
    run_that_writes(tmp_path, overwrite=True)


def test_overwrite_removes_files_of_any_name_that_the_project_wrote(tmp_path: Path) -> None:
    run_that_writes(tmp_path / "out", "model.safetensors", "new-in-this-version.bin", "deep/er.json")
    run_that_writes(tmp_path / "out", "other.json", overwrite=True)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"other.json", FILE}
    assert noted(tmp_path / "out") == ["other.json"]


@pytest.mark.parametrize("name", ["notes.txt", "README.md", "model.safetensors", "deep/new.bin", "link"])
def test_overwrite_leaves_alone_what_the_project_did_not_write(tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    run_that_writes(out, "card.json", "new.bin")
    if name == "link":
        (out / name).symlink_to(tmp_path)
    else:
        write_text(out / name, "mine")
    with pytest.raises(OutputError, match=f"no run wrote {name}"):
        run_that_writes(out, "card.json", overwrite=True)
    assert (out / name).exists()
    assert (out / "new.bin").read_text() == "written"


def test_what_a_stranger_puts_there_after_the_check_stays(tmp_path: Path) -> None:
    run_that_writes(tmp_path, "card.json", "state/a.bin")
    run = Run(out=tmp_path, overwrite=True)
    with run.at_work():
        run.prepare_out()
        (tmp_path / "state" / "mine.txt").write_text("x")
        write_text(tmp_path / "new.json", "{}")
    assert (tmp_path / "state" / "mine.txt").exists()
    assert not (tmp_path / "card.json").exists()


def test_a_folder_of_an_earlier_version_is_known_by_its_names(tmp_path: Path) -> None:
    for name in ("card.json", "README.md", "state/state.safetensors", "state/deltas-000000001.parquet"):
        write_text(tmp_path / name, "an earlier version's")
    assert not (tmp_path / FILE).exists()
    with Run(out=tmp_path).at_work():
        write_text(tmp_path / "evaluation.json", "this version's")
    assert noted(tmp_path)[:3] == ["README.md", "card.json", "evaluation.json"]
    run_that_writes(tmp_path, "x.json", overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"x.json", FILE}


@pytest.mark.parametrize("text", ["", '["card.json', "3", "[[1]]"])
def test_a_manifest_that_cannot_be_read_makes_nothing_removable(tmp_path: Path, text: str) -> None:
    run_that_writes(tmp_path, "card.json")
    (tmp_path / FILE).write_text(text)
    with pytest.raises(OutputError, match=r"no run wrote card.json"):
        run_that_writes(tmp_path, overwrite=True)


def test_a_folder_of_run_folders(tmp_path: Path) -> None:
    for seed in "01":
        run_that_writes(tmp_path / "runs" / seed, "card.json", "new.bin")
    write_text(tmp_path / "runs" / "old" / "card.json", "an earlier version's")
    run_that_writes(tmp_path / "runs", "x", overwrite=True)
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"x", FILE}


def test_a_folder_that_is_reached_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with Run(out=tmp_path / "real").at_work(), Run(out=tmp_path / "link").at_work():
        write_text(tmp_path / "link" / "new.bin", "x")
    assert Manifest(tmp_path / "link").knows(tmp_path / "real" / "new.bin")
