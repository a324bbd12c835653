"""Cache folder of the compiler: beside the downloads, unless the user has chosen another."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from robust_transfer import compiling
from robust_transfer.compiling import VARIABLE, keep_compiled
from robust_transfer.download.cache import cache_folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv(VARIABLE, "")  # so that what is set in its place is undone afterwards
    return tmp_path


def test_it_is_beside_the_downloads(home: Path) -> None:
    folder = keep_compiled()
    assert folder is not None
    assert folder.is_dir()
    assert folder.parent == home / "hub" / "compiled" == cache_folder().parent / "compiled"
    assert os.environ[VARIABLE] == str(folder)
    assert keep_compiled() == folder


def test_another_cpu_and_another_torch_have_folders_of_their_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> Path | None:
        monkeypatch.setenv(VARIABLE, "")
        return keep_compiled()

    here = found()
    with monkeypatch.context() as patch:
        patch.setattr(compiling, "_abilities", lambda: "flags: fpu avx2")
        other = found()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "1.0")
        older = found()
    assert len({here, other, older}) == 3
    assert found() == here


def test_the_users_choice_stands(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(home / "mine"))
    assert keep_compiled() == home / "mine"
    assert os.environ[VARIABLE] == str(home / "mine")
    assert not (home / "hub").exists()


def test_the_compilers_own_choice_does_not(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    monkeypatch.setenv(VARIABLE, default_cache_dir())
    assert keep_compiled() == Path(os.environ[VARIABLE])
    assert Path(os.environ[VARIABLE]).is_relative_to(home)


@pytest.mark.parametrize("obstacle", ["a file", "read only"])
def test_where_nothing_can_be_written_the_compiler_keeps_its_own_folder(
    home: Path, monkeypatch: pytest.MonkeyPatch, obstacle: str
) -> None:
    if obstacle == "a file":
        (home / "hub").write_text("")
    else:  # told by os.access alone: root, as whom tests may run, can write anywhere
        monkeypatch.setattr(os, "access", lambda *_: False)
    assert keep_compiled() is None
    assert not os.environ[VARIABLE]


TWICE = """
import torch
from torch._dynamo.utils import counters
from robust_transfer.compiling import keep_compiled
print(keep_compiled())
torch.compile(lambda x: (x.sin() + 1).relu())(torch.ones(64))
print(counters["inductor"]["fxgraph_cache_hit"])
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="nothing to compile with")
def test_a_second_process_finds_what_the_first_has_compiled(home: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    said = [
        subprocess.run(
            [sys.executable, "-c", TWICE], env=environment, capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(2)
    ]
    assert [hits for _, hits in said] == ["0", "1"]
    assert said[0][0] == said[1][0]
    assert Path(said[0][0]).is_relative_to(home)
