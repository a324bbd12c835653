"""Folders that an earlier release wrote load and mean the same; what cannot be read is refused in a sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from cli_helpers import DIGITS, Invoke, one_sentence
from helpers import QUIET

import robust_transfer as rt
from robust_transfer.checkpoint import read_card
from robust_transfer.errors import CheckpointError, DataError

EARLIER = Path(__file__).parents[1] / "earlier" / "0.1.0"
SOURCE, PROBE, EVALUATION, STUDY = (EARLIER / name for name in ("source", "probe", "evaluation", "study"))


def raw(folder: Path, name: str) -> dict[str, object]:
    return dict(json.loads((folder / name).read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def all_digits() -> rt.Split:
    """Every digit, by its number in the data set: what outcomes call ``index``."""
    task = rt.load_task("builtin:digits", seed=0)
    parts = [task.train, task.val, task.test]
    order = torch.cat([part.ids for part in parts]).argsort()
    labels, pixels = torch.cat([part.labels for part in parts]), torch.cat([part.images() for part in parts])
    return rt.Split.in_memory(pixels[order], labels[order], task.class_names)


def test_folders_hold_no_pixels_and_little_else() -> None:
    files = [path for path in EARLIER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 300_000
    assert {path.suffix for path in files} <= {".json", ".jsonl", ".safetensors", ".md", ".yaml", ".parquet"}


@pytest.mark.parametrize("folder", [SOURCE, PROBE], ids=lambda folder: folder.name)
def test_a_run_folder_loads_with_its_card(folder: Path) -> None:
    stored = raw(folder, "card.json")
    found = rt.load_checkpoint(folder)
    card = found.card
    assert (card.method, card.seed, list(card.class_names)) == (stored["method"], stored["seed"], stored["class_names"])
    assert str(card.threat) == stored["threat"]
    assert (card.cost.passes, card.cost.adversarial_examples) == (stored["cost"], stored["adversarial_examples"])
    assert card.metrics == stored["metrics"]
    assert found.preprocessing.size == 8
    assert found.trained_on is None, "there were no fingerprints"


def test_a_card_alone_is_read(tmp_path: Path) -> None:
    shutil.copy(PROBE / "card.json", tmp_path / "card.json")
    assert read_card(tmp_path / "card.json").method == "transfer:linear-probe"


def test_the_network_answers_as_it_did(all_digits: rt.Split) -> None:
    """Its predictions of today are those that stand in the outcomes of then, and they are of the same images."""
    outcomes = rt.load_evaluation(EVALUATION).outcomes
    at = torch.from_numpy(outcomes["index"].to_numpy(copy=True))
    assert all_digits.labels[at].tolist() == outcomes["label"].tolist()
    with torch.no_grad():
        said = rt.load_checkpoint(PROBE).classifier(all_digits.images()[at].float() / 255).argmax(1)
    assert said.tolist() == outcomes["clean_prediction"].tolist()
    assert (said != all_digits.labels[at]).any(), "a network that is always right would hide a shift of rows"


def test_an_evaluation_loads_with_its_figures() -> None:
    found, stored = rt.load_evaluation(EVALUATION), raw(EVALUATION, "evaluation.json")
    for name in ("clean_accuracy", "robust_accuracy"):
        share = getattr(found, name)
        assert {"value": share.value, "low": share.low, "high": share.high, "n": share.n} == stored[name]
    assert len(found.outcomes) == found.clean_accuracy.n == 60
    assert found.model_hash == rt.load_checkpoint(PROBE).hash


def test_it_is_transferred_from_and_evaluated() -> None:
    source, task = rt.load_source(SOURCE), rt.load_task("builtin:digits", seed=0)
    again = rt.transfer(source, task, rt.LinearProbe(l2=0.01), run=QUIET)
    assert again.card.source is not None
    found = rt.evaluate(
        again, task.test, attack="fgsm", examples=60, run=QUIET, red_flag_examples=0, transfer_attack_examples=0
    )
    earlier = rt.load_evaluation(EVALUATION)
    assert found.clean_accuracy.low <= earlier.clean_accuracy.value <= found.clean_accuracy.high


def test_they_are_reported_and_compared(invoke: Invoke, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    status, _, err = invoke("report", PROBE, EVALUATION, "--no-pictures", "--quiet", "--out", page)
    assert status == 0, err
    text = page.read_text(encoding="utf-8")
    share = rt.load_evaluation(EVALUATION).clean_accuracy
    assert f"{100 * share.value:.1f}" in text
    status, out, err = invoke("compare", EVALUATION, EVALUATION)
    assert status == 0, err
    assert "60" in out


def test_a_study_is_reported_from_its_folder(invoke: Invoke, tmp_path: Path) -> None:
    shutil.copytree(STUDY, tmp_path / "study")
    status, _, err = invoke("report", tmp_path / "study", "--no-pictures", "--quiet", "--out", tmp_path / "page.html")
    assert status == 0, err
    table = pd.read_parquet(STUDY / "table.parquet")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert len(table) == 2
    for row in table.to_dict("records"):
        assert row["strategy"] in text
        assert f"{100 * row['clean']:.1f}" in text
        assert f"{100 * row['robust']:.1f}" in text


def test_a_folder_of_then_is_emptied_by_overwrite_only(invoke: Invoke, tmp_path: Path) -> None:
    """It has no manifest: it is known by its names, and what else lies there stays."""
    shutil.copytree(PROBE, tmp_path / "probe")
    (tmp_path / "probe" / "notes.txt").write_text("mine")
    words = ("transfer", "--source", SOURCE, *DIGITS, "--strategy", "linear-probe", "--set", "l2=0.1", "--quiet")
    status, _, err = invoke(*words, "--out", tmp_path / "probe")
    assert status == 2
    assert "overwrite" in one_sentence(err)
    status, _, err = invoke(*words, "--out", tmp_path / "probe", "--overwrite")
    assert (tmp_path / "probe" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "update robust-transfer"),
        ({"schema": None}, "no card of this project"),
        ({"threat": "linf:8"}, "more than the whole pixel range"),
        ({"budget": 1}, "budget"),
    ],
)
def test_a_card_of_another_time_is_refused_in_a_sentence(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    shutil.copytree(PROBE, tmp_path / "probe")
    path = tmp_path / "probe" / "card.json"
    path.write_text(json.dumps(raw(PROBE, "card.json") | change))
    with pytest.raises(CheckpointError, match=message):
        rt.load_checkpoint(tmp_path / "probe")


def test_an_evaluation_of_another_schema_is_refused(tmp_path: Path) -> None:
    shutil.copytree(EVALUATION, tmp_path / "evaluation")
    path = tmp_path / "evaluation" / "evaluation.json"
    path.write_text(json.dumps(raw(EVALUATION, "evaluation.json") | {"schema": 2}))
    with pytest.raises(DataError, match="schema 2, this version reads 1"):
        rt.load_evaluation(tmp_path / "evaluation")
