"""Exit statuses, of all commands: what docs/commands.md says, found from the command line itself."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

import pytest
from cli_helpers import Invoke, one_sentence

from robust_transfer import cli
from robust_transfer.cli.base import ROAD

NEVER = "no-such-folder-or-name"
# A command line for each, in which everything is well-formed and nothing that it names is there.
MISSING = {
    "data": (NEVER,),
    "inspect": (NEVER,),
    "import": (NEVER, "--out", "out"),
    "rank": (NEVER, "--data", NEVER),
    "choose": ("--data", NEVER, "--out", "out"),
    "pretrain": ("--data", NEVER, "--out", "out"),
    "transfer": ("--source", NEVER, "--data", NEVER, "--strategy", "linear-probe", "--out", "out"),
    "evaluate": (NEVER, "--data", NEVER),
    "predict": (NEVER, NEVER),
    "export": (NEVER, "--to", "torch", "--out", "out"),
    "push": (NEVER, "owner/name", "--dry-run", "out"),
    "verify": (NEVER, "--data", NEVER),
    "compare": (NEVER, NEVER),
    "report": (NEVER, "--out", "out.html"),
    "study": (NEVER, "--out", "out"),
    "demo": ("--data", NEVER, "--out", "out"),
}
ALL_IS_THERE = {"list": (), "doctor": ("--no-self-test",)}  # these two ask for nothing that could be missing


def callbacks() -> dict[str, object]:
    return {info.name or info.callback.__name__: info.callback for info in cli.app.registered_commands if info.callback}


def test_every_command_is_tried() -> None:
    assert {*MISSING, *ALL_IS_THERE} == {*callbacks()} == {*ROAD}


@pytest.mark.parametrize("command", MISSING)
def test_what_is_missing_is_two_and_one_sentence(
    command: str, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = invoke(command, *MISSING[command])
    assert (status, out) == (2, "")
    assert NEVER in one_sentence(err)
    assert not list(tmp_path.iterdir()), "nothing is left behind"


@pytest.mark.parametrize("command", ROAD)
def test_an_unknown_option_is_two(command: str, invoke: Invoke) -> None:
    status, out, err = invoke(command, "--no-such-option")
    assert (status, out) == (2, "")
    assert "no-such-option" in err


@pytest.mark.parametrize("command", ROAD)
def test_help_is_zero(command: str, invoke: Invoke) -> None:
    status, out, err = invoke(command, "--help")
    assert (status, err) == (0, "")
    assert command in out


@pytest.mark.parametrize("command", ROAD)
def test_an_interruption_is_130_and_one_sentence(command: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it comes: here as PyTorch is being loaded, or the list read."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    module = sys.modules[inspect.getmodule(callbacks()[command]).__name__]  # type: ignore[union-attr]
    monkeypatch.setattr(module, "_listing" if command == "list" else "loading", interrupted)
    status, out, err = invoke(command, *MISSING.get(command, ALL_IS_THERE.get(command, ())))
    assert (status, out) == (130, "")
    assert "interrupted" in one_sentence(err)


@pytest.mark.parametrize("command", ROAD)
def test_our_own_bug_is_not_taken_for_the_users(command: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes up with its traceback, which is what Python exits by 1 for."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    module = sys.modules[inspect.getmodule(callbacks()[command]).__name__]  # type: ignore[union-attr]
    monkeypatch.setattr(module, "_listing" if command == "list" else "loading", broken)
    monkeypatch.setattr(sys, "argv", ["robust-transfer", command, *MISSING.get(command, ())])
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_the_page_lists_the_statuses() -> None:
    text = (Path(__file__).parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| (\d+) \|", text, re.M) == ["0", "1", "2", "3", "130"]
