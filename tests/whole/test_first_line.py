"""First line of a command, before PyTorch is loaded: in children whose PyTorch reports its import and exits at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
from cli_helpers import DIGITS

from robust_transfer.cli import app, catalogue

LOADED = 77  # status of a child that has come to load PyTorch
PYTORCH = f'import os\nos.write(2, b"(PyTorch is loaded)\\n")\nos._exit({LOADED})\n'
WORDS = {
    "transfer": ("--source", "bundled", *DIGITS, "--strategy", "linear-probe", "--out", "run"),
    "evaluate": ("bundled", *DIGITS, "--json"),
    "predict": ("bundled", "image.png", "--json"),
    "push": ("bundled", "acme/net", "--dry-run", "folder"),
    "export": ("bundled", "--to", "onnx", "--out", "model.onnx"),
    "pretrain": (*DIGITS, "--out", "run"),
    "import": ("bundled", "--out", "run"),
    "data": ("builtin:digits", "--json"),
    "inspect": ("bundled", "--json"),
    "compare": ("a", "b", "--json"),
    "study": ("heads", "--out", "run"),
    "verify": ("run", *DIGITS),
    "report": ("run",),
    "demo": (),
    "choose": (*DIGITS, "--out", "run"),
    "rank": ("bundled", *DIGITS, "--json"),
    "doctor": (),
}
GROUP: Any = typer.main.get_command(app)
QUIET = [name for name in WORDS if any("--quiet" in p.opts for p in GROUP.commands[name].params)]


@pytest.fixture(scope="module")
def pytorch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a PyTorch that can only be noticed."""
    folder = tmp_path_factory.mktemp("pytorch")
    (folder / "torch.py").write_text(PYTORCH)
    return folder


def call(pytorch: Path, *words: str, **variables: str) -> tuple[int, str, str]:
    """Status, standard output and standard error of a command with that PyTorch."""
    path = os.pathsep.join([str(pytorch), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "robust_transfer.cli", *words]
    environment = {**os.environ, "PYTHONPATH": path, **variables}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=pytorch, timeout=120)
    return done.returncode, done.stdout, done.stderr


def test_every_command_but_list_is_here() -> None:
    assert WORDS.keys() == GROUP.commands.keys() - {"list"}
    assert set(WORDS) - set(QUIET) == {"inspect", "compare"}


@pytest.mark.parametrize("name", WORDS)
def test_a_command_says_what_it_waits_for(pytorch: Path, name: str) -> None:
    said = f"robust-transfer {name}: loading PyTorch ...\n(PyTorch is loaded)\n"
    assert call(pytorch, name, *WORDS[name]) == (LOADED, "", said)


@pytest.mark.parametrize("name", QUIET)
def test_a_quiet_command_does_not(pytorch: Path, name: str) -> None:
    assert call(pytorch, name, *WORDS[name], "--quiet") == (LOADED, "", "(PyTorch is loaded)\n")


def test_of_several_processes_one_says_so(pytorch: Path) -> None:
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    assert "loading" in call(pytorch, "pretrain", *WORDS["pretrain"], RANK="0", **group)[2]
    assert call(pytorch, "pretrain", *WORDS["pretrain"], RANK="1", **group)[2] == "(PyTorch is loaded)\n"


@pytest.mark.parametrize("what", ["", "sources", "networks", "data", "pretraining", "strategies", "attacks", "recipes"])
def test_list_loads_no_pytorch(pytorch: Path, what: str) -> None:
    status, out, err = call(pytorch, "list", *filter(None, [what]))
    assert (status, err) == (0, "")
    assert out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("transfer", "--source", "bundled"), "--data"),
        (("transfer", *WORDS["transfer"], "--strategy", "linear-prob"), "unknown strategy 'linear-prob': did you mean"),
        (("pretrain", *WORDS["pretrain"], "--method", "pgd"), "unknown pretraining method 'pgd': did you mean"),
        (("evaluate", *WORDS["evaluate"], "--seed", "-1"), "--seed"),
        (("demo", "--threads", "0"), "--threads"),
        (("study", *WORDS["study"], "--precision", "float16"), "float16"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_with_the_words_is_told_first(pytorch: Path, words: tuple[str, ...], told: str) -> None:
    status, out, err = call(pytorch, *words)
    assert (status, out) == (2, "")
    assert told in err
    assert "PyTorch" not in err


def test_a_name_is_checked_as_the_registry_checks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from robust_transfer.errors import UnknownNameError
    from robust_transfer.pretraining import PRETRAINING
    from robust_transfer.strategies import STRATEGIES

    for kind, registry in (("strategies", STRATEGIES), ("pretraining", PRETRAINING)):
        for name in registry.names():
            catalogue.check_name(kind, name)
        with pytest.raises(UnknownNameError) as own:
            registry.get("no such thing")
        with pytest.raises(UnknownNameError) as ours:
            catalogue.check_name(kind, "no such thing")
        assert str(ours.value) == str(own.value)
    monkeypatch.setattr(catalogue, "entry_points", lambda group: [group])  # another package may have registered it
    catalogue.check_name("strategies", "no such thing")
