"""Completion in a shell: the names, and that nothing heavy is loaded for them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from robust_transfer.attacks.naming import SUITES
from robust_transfer.cli import completion
from robust_transfer.cli.completion import names_of


def completed(words: str) -> list[str]:
    """What bash would offer for the last of ``words``, from a process whose PyTorch cannot be loaded."""
    code = "import sys; sys.modules['torch'] = None; sys.argv = ['robust-transfer']\n"
    code += "from robust_transfer.cli import main\nmain()"
    variables = {
        "_ROBUST_TRANSFER_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **variables}, timeout=120
    )
    assert "Traceback" not in done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("robust-transfer transfer --strategy l", {"linear-probe", "last-blocks", "lwf"}),
        ("robust-transfer transfer --source bundled", {"bundled", "bundled-64"}),
        ("robust-transfer pretrain --method tr", {"trades"}),
        ("robust-transfer evaluate bundled --attack str", {"strong"}),
        ("robust-transfer ev", {"evaluate"}),
    ],
)
def test_what_a_shell_offers(words: str, offered: set[str]) -> None:
    assert set(completed(words)) == offered


def test_every_kind_has_names() -> None:
    for kind in ("networks", "recipes", "sources", "strategies", "pretraining", "attacks"):
        assert names_of(kind)("")
        assert names_of(kind)("no such name") == []
    assert [name for name, _ in completion.SUITES] == list(SUITES)
