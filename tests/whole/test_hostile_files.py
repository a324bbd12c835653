"""Broken and hostile files at the command line: one sentence each, nothing is executed, nothing is left behind."""

from __future__ import annotations

import argparse
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_helpers import Invoke
from foreign_files import text, whole, write_zip
from foreign_hostile import BROKEN, EXTENSIONS, HOSTILE, LIES, write
from foreign_others import ARCHIVES, LEGACY, OTHERS, SAFE, ZIP

CASES: dict[str, tuple[str, Any]] = {f"hostile: {name}": ("x.pt", value) for name, value in HOSTILE.items()}
CASES |= {f"broken: {name}": ("x.pkl", value) for name, value in BROKEN.items()}
CASES |= {f"broken: {name}": ("x.pkl", whole(value + b"0N")) for name, value in EXTENSIONS.items()}
CASES |= {f"lie: {name}": ("x.pt", value) for name, value in LIES.items()}
CASES |= {f"other {i}: {words}": (name, content) for i, (name, content, words) in enumerate(OTHERS)}
CASES |= {f"archive: {name}": ("x.pt", content) for name, content in ARCHIVES.items()}
CASES |= {
    f"{name} cut off at {share} %": ("x.bin", content[: len(content) * share // 100])
    for name, content in (("zip", ZIP), ("legacy", LEGACY), ("safetensors", SAFE))
    for share in (1, 10, 30, 50, 70, 90, 99)
}


def made(folder: Path, case: str) -> Path:
    name, content = CASES[case]
    path = folder / name
    if case.startswith("hostile"):
        return write(folder, content, ("pickle", "zip", "legacy")[len(case) % 3])
    if case.startswith("lie"):
        return write_zip(path, whole(b"}", text("a"), content, b"s"), _0=bytes(24))
    path.write_bytes(content() if callable(content) else content)
    return path


def test_there_are_enough() -> None:
    assert len(CASES) > 250


@pytest.mark.parametrize("part", range(8))
def test_one_sentence_and_nothing_left(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    out = tmp_path / "out"
    for number, case in enumerate(list(CASES)[part::8]):
        folder = tmp_path / f"case{number}"
        folder.mkdir()
        monkeypatch.chdir(folder)
        path = made(folder, case)
        words: tuple[Any, ...] = ("inspect", path)
        if number % 2:
            words = ("import", path, "--out", out)
        elif number % 5 == 0:
            words = (
                "transfer",
                "--source",
                path,
                "--data",
                "builtin:digits",
                "--strategy",
                "linear-probe",
                "--out",
                out,
            )
        status, said, err = invoke(*words)
        assert (status, said) == (2, ""), (case, err)
        assert err.startswith("robust-transfer: "), case
        assert err.count("\n") == 1, (case, err)
        assert 30 < len(err) < 500 + 2 * len(str(path)), (case, err)
        assert "Traceback" not in err
        assert err.strip().isprintable(), case
        assert [each.name for each in folder.iterdir()] == [path.name], case
        assert not out.exists(), case
    assert {each.name.rstrip("0123456789") for each in tmp_path.iterdir()} == {"case"}


def test_a_network_with_something_hostile_beside_it_is_read_and_the_rest_listed(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    class Touches:
        def __reduce__(self) -> Any:
            return os.system, ("touch canary",)

    from published_families import AUTHORS

    state = OrderedDict({**AUTHORS["kuangliu"].make(), "mu": torch.zeros(3), "sigma": torch.ones(3)})
    value = {"state_dict": state, "hook": Touches(), "args": argparse.Namespace(note="\x1b[2J[red]x[/red]", lr=0.1)}
    torch.save(value, "net.pt")
    status, said, err = invoke("import", "net.pt", "--out", "run", "--set", "activation=relu", "--quiet")
    assert (status, said, err) == (0, "", "")
    status, said, err = invoke("inspect", "net.pt", "--set", "activation=relu")
    assert (status, err) == (0, "")
    told = " ".join(said.split())
    assert "not imported argparse.Namespace" in told
    assert "system" in told
    assert "\x1b" not in said
    assert "\\x1b[2J[red]x[/red]" in told  # shown as it is: neither obeyed nor taken for markup
    assert {each.name for each in Path().iterdir()} == {"net.pt", "run"}
    assert (tmp_path / "run" / "card.json").read_text().isascii()


@pytest.mark.parametrize("command", ["inspect", "import", "transfer"])
def test_places_that_are_no_files(invoke: Invoke, tmp_path: Path, command: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    out = tmp_path / "out"
    more: tuple[Any, ...] = () if command == "inspect" else ("--out", out)
    for place in (Path("/dev/zero"), Path("/dev/null"), tmp_path / "fifo", tmp_path / "folder", tmp_path / "none.pt"):
        words = (command, place, *more)
        if command == "transfer":
            words = (command, "--source", place, "--data", "builtin:digits", "--strategy", "linear-probe", *more)
        status, said, err = invoke(*words)
        assert (status, said) == (2, ""), place
        assert str(place) in err
        assert err.count("\n") == 1
        assert not out.exists()


def test_names_in_a_file_do_not_reach_the_terminal_raw(invoke: Invoke, tmp_path: Path) -> None:
    hostile = "\x1b]0;owned\x07\x1b[31m\u202e<script>"
    torch.save({f"{hostile}.weight": torch.ones(2, 2)}, tmp_path / "x.pt")
    (tmp_path / "y.pt").write_bytes(whole(text(hostile) + text("system") + b"\x93)R"))
    for name in ("x.pt", "y.pt"):
        status, said, err = invoke("inspect", tmp_path / name)
        assert (status, said) == (2, "")
        assert err.strip().isprintable()
        assert "\\x1b" in err
