"""Completion in a shell: the names, and that nothing heavy is loaded for them."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import pytest
from typer.models import ArgumentInfo, ParameterInfo

from robust_transfer.attacks.naming import SUITES
from robust_transfer.cli import app, completion
from robust_transfer.cli.base import ROAD
from robust_transfer.cli.completion import names_of

OFFERING = """
import contextlib, io, json, os, sys
sys.modules["torch"] = None
sys.argv = ["robust-transfer"]
from robust_transfer.cli import main
offered = []
for words in json.load(sys.stdin):
    os.environ |= {"COMP_WORDS": "\\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        main()
    offered.append(out.getvalue().split())
print(json.dumps(offered))
"""


def completed(lines: list[list[str]], folder: Path) -> list[set[str]]:
    """What bash would offer for the last word of each line in a folder, from a process whose PyTorch cannot be loaded."""
    variables = {**os.environ, "_ROBUST_TRANSFER_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [sys.executable, "-c", OFFERING], input=json.dumps(lines), capture_output=True, text=True, env=variables, cwd=folder,
        timeout=120,
    )  # fmt: skip
    assert done.stderr == ""
    return [set(names) for names in json.loads(done.stdout)]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("robust-transfer transfer --strategy la", {"last-blocks"}),
        ("robust-transfer transfer --source bundled", {"bundled", "bundled-64"}),
        ("robust-transfer pretrain --method tr", {"trades"}),
        ("robust-transfer evaluate bundled --attack str", {"strong"}),
        ("robust-transfer predict bundled x.png --attack fg", {"fgsm"}),
        ("robust-transfer choose --track tens", {"tensorboard"}),
        ("robust-transfer inspect x --normalisation cli", {"clip"}),
        ("robust-transfer ev", {"evaluate"}),
    ],
)
def test_what_a_shell_offers(words: str, offered: set[str], tmp_path: Path) -> None:
    assert completed([words.split(" ")], tmp_path) == [offered]


def test_every_kind_has_names() -> None:
    for kind in (
        "networks",
        "recipes",
        "sources",
        "strategies",
        "pretraining",
        "attacks",
        "trackers",
        "normalisations",
    ):
        assert names_of(kind)("")
        assert names_of(kind)("no such name") == []
    assert [name for name, _ in completion.SUITES] == list(SUITES)


def parameters() -> list[tuple[str, str, Any, ParameterInfo, int]]:
    """Command, name, type, what typer is told, and the number of arguments before it, of all that takes a value."""
    found = []
    for command in app.registered_commands:
        assert command.callback is not None
        arguments = 0
        for name, parameter in inspect.signature(command.callback, eval_str=True).parameters.items():
            kind, info = get_args(parameter.annotation)
            is_argument = isinstance(info, ArgumentInfo)
            if kind is not bool and not info.hidden:
                found.append((command.name or command.callback.__name__, name, kind, info, arguments * is_argument))
            arguments += is_argument
    return found


def spelt(info: ParameterInfo, name: str) -> str:
    options = [each for each in (info.default, *(info.param_decls or ())) if str(each).startswith("--")]
    return str(options[0]) if options else f"--{name.replace('_', '-')}"


def choices(kind: Any) -> set[str]:
    """Values that a type lists, also inside ``list[...]`` and beside None."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {str(one.value) for one in kind}
    if get_origin(kind) is Literal:
        return set(get_args(kind))
    return {value for inner in get_args(kind) for value in choices(inner)}


def is_number(kind: Any) -> bool:
    return kind in (int, float) or (bool(get_args(kind)) and all(is_number(x) or x is NoneType for x in get_args(kind)))


EVERY = parameters()


def test_all_commands_are_looked_at() -> None:
    assert {command for command, *_ in EVERY} == {*ROAD}
    assert len(EVERY) > 150


def line_of(command: str, name: str, info: ParameterInfo, before: int) -> list[str]:
    """What has been typed where a value is to come."""
    return [
        "robust-transfer",
        command,
        *(["x"] * before if isinstance(info, ArgumentInfo) else [spelt(info, name)]),
        "",
    ]


def test_every_value_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its type, or by a function of ours: a text or a path that has neither was forgotten."""
    monkeypatch.chdir(tmp_path)
    shell = completed([line_of(command, name, info, before) for command, name, _, info, before in EVERY], tmp_path)
    for (command, name, kind, info, _), offered in zip(EVERY, shell, strict=True):
        where, offer = f"{command}: {name}", info.autocompletion
        if is_number(kind):
            assert (offer, offered) == (None, set()), where
            continue
        assert bool(choices(kind)) != (offer is not None), f"{where} has no completion, or two"
        values = choices(kind) or {value for value, _ in offer("")}  # type: ignore[misc]
        assert offered == values, where
        assert values or offer in (completion.files, completion.anything), where
        if (listed := re.search(r"`list (\w+)`", info.help or "")) is not None:
            assert {value for value, _ in names_of(listed[1])("")} <= values, where
        assert (offer is completion.files) >= (kind in (Path, Path | None, list[Path], list[Path] | None)), where


def test_names_and_folders_stand_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("builds", "runs", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "bundle.txt").touch()
    monkeypatch.chdir(tmp_path)
    assert [name for name, _ in completion.MODELS("bu")] == ["bundled", "bundled-64", "builds/"]
    assert completion.MODELS("ru") == [], "the shell goes on into the folder itself, without a space behind it"
    assert {"runs/", "natural"} <= {name for name, _ in completion.MODELS("")}
    assert completion.DATA("b") == [("builtin:digits", ""), ("builds/", "a folder here")]


def test_the_last_of_several_attacks_is_completed() -> None:
    assert [name for name, _ in names_of("attacks")("pgd-20+fg")] == ["pgd-20+fgsm"]


def test_the_values_that_are_offered_are_taken() -> None:
    from robust_transfer.cli.options import seconds_of
    from robust_transfer.foreign.normalisations import NORMALISATIONS
    from robust_transfer.run import Run
    from robust_transfer.threat import Threat

    assert [str(Threat.parse(value)) for value, _ in completion.THREATS("")] == [v for v, _ in completion.THREATS("")]
    assert [seconds_of(value) for value, _ in completion.TIMES("")] == [90, 300, 3600]
    assert [value for value, _ in names_of("normalisations")("")] == list(NORMALISATIONS)
    assert {value for value, _ in completion.DEVICES("")} >= {"auto", "cpu"}
    assert Run(device="cpu").torch_device().type == "cpu"
