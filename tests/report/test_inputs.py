"""Images and network of an evaluation: found by its record, trusted by their hashes."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest
from report_helpers import network

from robust_transfer.data import load_task
from robust_transfer.errors import RobustTransferError
from robust_transfer.evaluation import evaluate
from robust_transfer.report.gather import Entry, gather
from robust_transfer.report.inputs import find_inputs, options
from robust_transfer.run import Run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with an evaluation of 12 digits beside it, whose command says where they are."""
    out = tmp_path_factory.mktemp("runs")
    made = network().save(out / "net")
    words = ["robust-transfer", "evaluate", str(out / "net"), "--data=builtin:digits", "--examples", "12"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", words)
        run = Run(out=out / "ev", quiet=True)
        evaluate(made, load_task("builtin:digits").test, attack="fgsm", examples=12, run=run, red_flag_examples=0)
    return out


def entry(*folders: Path) -> Entry:
    return next(found for found in gather(folders) if found.evaluation is not None)


def test_images_and_network_are_found(folder: Path) -> None:
    both = entry(folder)
    found = find_inputs(both, None)
    assert both.evaluation is not None
    assert found.images.ids.tolist() == both.evaluation.outcomes["index"].tolist()
    assert found.images.size == 8
    assert found.model.hash == both.evaluation.model_hash
    alone = find_inputs(entry(folder / "ev"), None)  # the network is where the command says
    assert alone.model.hash == found.model.hash


def test_another_network_in_its_place_is_not_taken(folder: Path, tmp_path: Path) -> None:
    both = entry(folder)
    other = network(seed=5).save(tmp_path / "other")
    assert both.network is not None
    assert both.evaluation is not None
    assert other.hash != both.evaluation.model_hash
    swapped = dataclasses.replace(both, network=dataclasses.replace(both.network, folder=tmp_path / "other"))
    with pytest.raises(RobustTransferError, match="is not the one that was evaluated"):
        find_inputs(swapped, None)


def test_other_images_are_not_taken(folder: Path) -> None:
    both = entry(folder)
    assert both.evaluation is not None
    other = dataclasses.replace(both.evaluation, data_hash="0" * 16)
    assert both.evaluated is not None
    doctored = dataclasses.replace(both, evaluated=dataclasses.replace(both.evaluated, evaluation=other))
    with pytest.raises(RobustTransferError, match="other images"):
        find_inputs(doctored, None)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("python train.py", "does not say where its images are"),
        ("robust-transfer evaluate net --data hf:somebody/something", "not at hf:somebody/something"),
        ("robust-transfer evaluate net --data /no/such/folder", "not at /no/such/folder"),
        ("robust-transfer evaluate net --data 'unclosed", "does not say"),
        ("robust-transfer evaluate net --data builtin:digits --shots many", "cannot be understood"),
    ],
)
def test_what_cannot_be_found_is_said_and_nothing_is_downloaded(folder: Path, command: str, told: str) -> None:
    both = entry(folder)
    assert both.evaluation is not None
    assert both.evaluated is not None
    named = dataclasses.replace(both.evaluation, command=command)
    other = dataclasses.replace(both, evaluated=dataclasses.replace(both.evaluated, evaluation=named))
    with pytest.raises(RobustTransferError, match=told):
        find_inputs(other, None)


def test_options_of_an_evaluate_command_are_read() -> None:
    command = "robust-transfer evaluate 'my run' --data=a/b --thorough --split val --seed 3 --out x --val 0.2"
    assert options(command) == {"model": "my run", "data": "a/b", "split": "val", "seed": "3", "val": "0.2"}
    assert options("robust-transfer evaluate --data a") == {"data": "a"}
    columns = {"image-column": "i", "label-column": "l", "split-column": "s"}
    assert options("robust-transfer evaluate --image-column i --label-column=l --split-column s") == columns
    assert options("robust-transfer transfer --data a") == {}
    assert options("") == {}
