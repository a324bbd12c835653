"""No network call without being asked: every command, with the network denied; and one that asks, which is caught."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main
from offline import offline

from robust_transfer.cli import app

SMALL = Path(__file__).parents[1] / "earlier" / "0.1.0"
DIGITS = ("--data", "builtin:digits")
CHEAP = ("--red-flag-examples", "0", "--transfer-attack-examples", "0", "--quiet")
RECIPE = """
name: small
title: small
paper: none
sources: {small: {use: source}}
tasks: {target: {data: "builtin:digits"}}
strategies: {probe: {strategy: linear-probe, set: {l2: 0.1}}}
evaluations: {pgd: {threat: "linf:2/255", attack: fgsm, examples: 10, transfer_attack_examples: 0}}
grid: [{source: small, task: target, strategy: probe, seed: [0, 1], evaluation: pgd}]
"""
TRANSFER = ("transfer", "--source", "source", *DIGITS, "--strategy", "linear-probe", "--set", "l2=0.1", "--quiet")
EVALUATE = ("evaluate", "probe", *DIGITS, "--threat", "linf:2/255", "--attack", "fgsm", "--examples", "10", *CHEAP)
FEW = (
    ("list",),
    ("doctor", "--no-self-test"),
    ("data", "builtin:digits", "--quiet"),
    (*TRANSFER, "--out", "probe"),
    (*EVALUATE, "--keep-deltas", "--out", "evaluated"),
    ("report", "evaluated", "probe", "--quiet"),
)
REST = (
    ("pretrain", *DIGITS, "--network", "wrn-16-1", "--method", "natural", "--epochs", "0.1", "--quiet", "--out", "made"),
    ("rank", "source", "bundled", *DIGITS, "--examples", "40", "--quiet"),
    ("predict", "probe", "image.png", "--quiet"),
    ("export", "probe", "--to", "timm", "--out", "exported", "--quiet"),
    ("push", "probe", "owner/name", "--dry-run", "pushed", "--quiet"),
    ("verify", "evaluated", *DIGITS, "probe", "--quiet"),
    ("compare", "evaluated", "evaluated"),
    ("inspect", "weights.pt"),
    ("import", "source", "--out", "imported", "--quiet"),
    ("study", "recipe.yaml", "--out", "study", "--jobs", "2", "--quiet"),
    ("choose", *DIGITS, "--source", "source", "--time-limit", "20s", "--quiet", "--out", "chosen"),
    ("demo", "--no-scratch", "--shots", "4", "--examples", "8", "--quiet",
     "--out", "demo"),
)  # fmt: skip
GROUP: Any = typer.main.get_command(app)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a source, an image, a recipe and weights of others."""
    import numpy as np
    import torch
    from PIL import Image

    shutil.copytree(SMALL / "source", tmp_path / "source")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "image.png")
    torch.save({"conv.weight": torch.zeros(4, 3, 3, 3)}, tmp_path / "weights.pt")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


def test_commands_ask_nobody(folder: Path) -> None:
    statuses, asked, said = offline(FEW, folder)
    assert statuses == [0] * len(FEW), said
    assert asked == []


def test_a_command_that_asks_is_caught(folder: Path) -> None:
    statuses, asked, _ = offline([("inspect", "https://example.org/weights.pt"), ("data", "hf:owner/name")], folder)
    assert statuses == [2, 2], "no network is one sentence, as ever"
    assert any("example.org" in line for line in asked)
    assert any("huggingface.co" in line for line in asked)


@pytest.mark.slow
def test_all_commands_ask_nobody(folder: Path) -> None:
    assert {words[0] for words in (*FEW, *REST)} == {*GROUP.commands}, "every command is tried"
    statuses, asked, said = offline((*FEW, *REST), folder)
    failed = [words for words, status in zip((*FEW, *REST), statuses, strict=True) if status not in (0, 2)]
    assert asked == []
    assert failed == [], said
    refused = [words[0] for words, status in zip((*FEW, *REST), statuses, strict=True) if status == 2]
    assert refused in ([], ["inspect"]), said  # the weights are those of no network that is known


def _isolated() -> bool:
    """Whether this machine lets us make a network namespace."""
    try:
        return subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not _isolated(), reason="network namespaces are not allowed here")
def test_it_works_where_there_is_no_network(folder: Path) -> None:
    statuses, asked, said = offline(FEW, folder, launch=("unshare", "--net"))
    assert statuses == [0] * len(FEW), said
    assert asked == []
