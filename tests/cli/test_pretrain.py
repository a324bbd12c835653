"""``pretrain`` on the command line: from scratch, and from another source."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_helpers import DIGITS, Invoke, one_sentence
from helpers import make_source

from robust_transfer.checkpoint import load_checkpoint

BRIEF = ("--epochs", "0.1", "--set", "augment=false", "--precision", "float32", "--quiet")


@pytest.fixture
def start(tmp_path: Path) -> Path:
    make_source().save(tmp_path / "start")
    return tmp_path / "start"


def test_fare_goes_on_from_a_source(start: Path, tmp_path: Path, invoke: Invoke) -> None:
    out = tmp_path / "fare"
    words = (*DIGITS, "--method", "fare", "--from", start, "--out", out, "--set", "steps=1", "--set", "awp=0.005")
    status, _, err = invoke("pretrain", *words, *BRIEF)
    assert status == 0, err
    before, made = load_checkpoint(start), load_checkpoint(out)
    assert made.card.source == before.provenance
    assert made.card.settings["awp"] == 0.005
    assert made.hash != before.hash


def test_a_start_where_there_is_none_and_none_where_there_has_to_be_one(
    start: Path, tmp_path: Path, invoke: Invoke
) -> None:
    for words, message in (
        (("--method", "fare"), "name one with --from"),
        (("--method", "fast", "--from", start), "leave out the start"),
        (("--method", "fare", "--from", start, "--network", "wrn-16-2"), "leave out --network"),
        (("--method", "free", "--set", "awp=0.01"), "unknown setting of pretraining method 'free' 'awp'"),
    ):
        status, _, err = invoke("pretrain", *DIGITS, "--out", tmp_path / "out", *words, *BRIEF)
        assert status == 2
        assert message in one_sentence(err)
    assert not (tmp_path / "out").exists()
