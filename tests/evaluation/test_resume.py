"""Evaluation: written and read back, resumed after an interruption, refused when damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from evaluation_helpers import (
    COLUMNS,
    QUIET,
    Brightness,
    checkpoint,
    labelled_greys,
    noise,
)

from robust_transfer.attacks import PGD, Attack
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.data import Split
from robust_transfer.errors import ConfigError, DataError, OutputError, ThreatError
from robust_transfer.evaluation import Evaluation, evaluate, load_evaluation
from robust_transfer.evaluation.result import load_figures
from robust_transfer.manifest import FILE
from robust_transfer.run import Run

KEYS = """schema clean_accuracy robust_accuracy constant_accuracy by_attack by_class curve transferred untested threat
attack split input_size precision seed flags seconds passes data_hash model_hash source_hash versions hardware command
disagreement red_flag_examples compiled seen notes matched class_names pixels
balanced_clean_accuracy balanced_robust_accuracy per_class certificates further corrupted further_columns"""


@pytest.fixture
def split() -> Split:
    return labelled_greys()


# ---------------------------------------------------------------- what is written


def run_to(out: Path, **settings: Any) -> Run:
    return Run(out=out, quiet=True, device="cpu", precision="float32", **settings)


def test_what_is_written_is_read_back(split: Split, tmp_path: Path) -> None:
    out = tmp_path / "run"
    found = evaluate(Brightness(), split, threat="linf:20/255", attack="quick", run=run_to(out))
    assert sorted(p.name for p in out.iterdir()) == [FILE, "evaluation.json", "outcomes.parquet"]
    raw = json.loads((out / "evaluation.json").read_text())
    assert raw == found.to_dict()
    assert list(raw) == KEYS.split()
    assert raw["robust_accuracy"].keys() == {"value", "low", "high", "n"}
    assert raw["split"] == "unknown"
    table = pd.read_parquet(out / "outcomes.parquet")
    assert list(table.columns) == COLUMNS
    assert table["margin"].dtype == "float32"
    loaded = load_evaluation(out)
    assert loaded.to_dict() == raw
    pd.testing.assert_frame_equal(loaded.outcomes, found.outcomes)
    assert str(loaded) == str(found)


def cut_short(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Kill the evaluation in the batch after so many."""
    real, calls = Attack.__call__, []

    def killed(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) > after:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(Attack, "__call__", killed)


def test_an_evaluation_that_was_killed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data, out = checkpoint(), noise(50), tmp_path / "run"
    whole = evaluate(model, data, red_flag_examples=0, run=QUIET, attack="pgd-2")
    with monkeypatch.context() as patch:
        cut_short(patch, after=2)
        with pytest.raises(KeyboardInterrupt):
            evaluate(model, data, red_flag_examples=0, run=run_to(out), attack="pgd-2", batch_size=8)
    assert not (out / "evaluation.json").exists()
    with pytest.raises(OutputError, match="not empty"):
        evaluate(model, data, red_flag_examples=0, run=run_to(out), attack="pgd-2")
    with pytest.raises(OutputError, match="has seed 0, this one 3"):
        evaluate(model, data, red_flag_examples=0, run=run_to(out, resume=True, seed=3), attack="pgd-2")
    seen: list[int] = []
    with monkeypatch.context() as patch:
        real = Attack.__call__

        def watched(*given: Any, **more: Any) -> Any:
            seen.extend(given[4].tolist())
            return real(*given, **more)

        patch.setattr(Attack, "__call__", watched)
        resumed = evaluate(
            model, data, red_flag_examples=0, run=run_to(out, resume=True), attack="pgd-2", batch_size=20
        )
    assert seen == list(range(16, 50))
    pd.testing.assert_frame_equal(resumed.outcomes, whole.outcomes)
    assert resumed.passes == whole.passes
    assert resumed.robust_accuracy == whole.robust_accuracy
    assert sorted(p.name for p in out.iterdir()) == [FILE, "evaluation.json", "outcomes.parquet"]


def test_a_damaged_state_is_refused_and_overwritten(split: Split, tmp_path: Path) -> None:
    out = tmp_path / "run"
    (out / "state").mkdir(parents=True)
    (out / "state" / "outcomes.parquet").write_text("{")
    with pytest.raises(OutputError, match=r"damaged .*--overwrite"):
        evaluate(Brightness(), split, run=run_to(out, resume=True), attack="fgsm")
    evaluate(Brightness(), split, run=run_to(out, overwrite=True), attack="fgsm")
    assert load_evaluation(out).attack == "fgsm"


def test_a_finished_evaluation_is_not_run_again(split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    found = evaluate(Brightness(), split, run=run_to(out), attack="fgsm")
    with pytest.raises(OutputError, match="not empty"):
        evaluate(Brightness(), split, run=run_to(out), attack="fgsm")
    cut_short(monkeypatch, after=0)
    again = evaluate(Brightness(), split, run=run_to(out, resume=True), attack="fgsm")
    assert again.to_dict() == found.to_dict()
    with pytest.raises(OutputError, match="has attack 'fgsm', this one 'pgd-1'"):
        evaluate(Brightness(), split, run=run_to(out, resume=True), attack="pgd-1")


def test_what_a_finished_evaluation_could_not_remove_is_removed_by_the_next(split: Split, tmp_path: Path) -> None:
    out = tmp_path / "run"
    evaluate(Brightness(), split, run=run_to(out), attack="fgsm")
    (out / "state").mkdir()
    (out / "state" / "deltas-000000000.parquet").write_text("of a batch")
    evaluate(Brightness(), split, run=run_to(out, resume=True), attack="fgsm")
    assert not (out / "state").exists()


def test_a_measurement_that_is_killed_between_its_two_files_is_made_again(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, more = tmp_path / "run", partial(evaluate, Brightness(), split, attack="fgsm", smallest_eps=True)
    evaluate(Brightness(), split, run=run_to(out), attack="fgsm")
    with monkeypatch.context() as patch:
        patch.setattr("robust_transfer.evaluation.outcomes.write_json", stopped)
        with pytest.raises(KeyboardInterrupt):
            more(run=run_to(out, resume=True))
    assert "smallest_eps" in pd.read_parquet(out / "outcomes.parquet")
    assert "smallest_eps" not in load_evaluation(out).outcomes
    resumed, whole = more(run=run_to(out, resume=True)), more(run=QUIET)
    assert resumed.passes == whole.passes
    pd.testing.assert_frame_equal(load_evaluation(out).outcomes, whole.outcomes)


def stopped(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_record_of_before_it_named_its_columns_is_read_with_all(split: Split, tmp_path: Path) -> None:
    out = tmp_path / "run"
    evaluate(Brightness(), split, run=run_to(out), attack="fgsm", smallest_eps=True)
    raw = json.loads((out / "evaluation.json").read_text())
    assert raw.pop("further_columns") == ["smallest_eps"]
    (out / "evaluation.json").write_text(json.dumps(raw))
    assert "smallest_eps" in load_evaluation(out).outcomes


def test_a_models_own_folder_keeps_the_model(tmp_path: Path) -> None:
    out, data = tmp_path / "run", noise(20)
    model = checkpoint().save(out)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    evaluate(model, data, red_flag_examples=0, run=run_to(out), attack="fgsm")
    with pytest.raises(OutputError, match="already holds an evaluation"):
        evaluate(model, data, red_flag_examples=0, run=run_to(out), attack="pgd-1")
    assert load_evaluation(out).attack == "fgsm"
    evaluate(model, data, red_flag_examples=0, run=run_to(out, overwrite=True), attack="pgd-1")
    assert load_evaluation(out).attack == "pgd-1"
    after = {p.name: p.read_bytes() for p in out.iterdir()}
    assert before.items() <= after.items()
    assert set(after) - set(before) == {"evaluation.json", "outcomes.parquet", FILE}


def test_another_models_folder_is_not_written_to(tmp_path: Path) -> None:
    mine, data = checkpoint().save(tmp_path / "mine"), noise(20)
    torch.manual_seed(1)
    other = Checkpoint(Classifier.build(mine.classifier.spec), mine.card).save(tmp_path / "other")
    before = {p.name: p.read_bytes() for p in (tmp_path / "mine").iterdir()}
    for model in (other, mine.classifier):
        with pytest.raises(OutputError, match="is not empty"):
            evaluate(model, data, red_flag_examples=0, run=run_to(tmp_path / "mine"), attack="fgsm")
    assert {p.name: p.read_bytes() for p in (tmp_path / "mine").iterdir()} == before


@pytest.mark.parametrize(
    "wrong", [{"curve": ["8"]}, {"curve": ["x"]}, {"red_flag_examples": -1}, {"transfer_attack_examples": -1}]
)
def test_what_is_asked_beside_it_is_looked_at_before_anything_is_touched(tmp_path: Path, wrong: dict[str, Any]) -> None:
    model, out = checkpoint(), tmp_path / "run"
    evaluate(model, noise(20), red_flag_examples=0, run=run_to(out), attack="fgsm")
    with pytest.raises((ConfigError, ThreatError)):
        evaluate(model, noise(20), run=run_to(out, overwrite=True), attack="fgsm", **wrong)
    assert load_evaluation(out).attack == "fgsm"


def test_the_model_goes_back_where_it_was(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    moves: list[torch.device] = []
    model = Brightness()

    def moved(device: torch.device) -> Brightness:
        moves.append(device)
        return model

    monkeypatch.setattr(model, "to", moved)
    monkeypatch.setattr(Run, "torch_device", lambda self: torch.device("cpu", 0))
    cut_short(monkeypatch, after=0)
    with pytest.raises(KeyboardInterrupt):
        evaluate(model, split, red_flag_examples=0, run=QUIET, attack="fgsm")
    # for a first pass, for the look at whether it is random, and for the attack
    assert moves == 3 * [torch.device("cpu", 0), torch.device("cpu")]


def spoil_json(out: Path) -> None:
    (out / "evaluation.json").write_text("{")


def spoil_schema(out: Path) -> None:
    raw = json.loads((out / "evaluation.json").read_text())
    (out / "evaluation.json").write_text(json.dumps({**raw, "schema": 99}))


def spoil_key(out: Path) -> None:
    raw = json.loads((out / "evaluation.json").read_text())
    del raw["by_attack"]
    (out / "evaluation.json").write_text(json.dumps(raw))


def spoil_parquet(out: Path) -> None:
    (out / "outcomes.parquet").write_bytes(b"no parquet")


def spoil_rows(out: Path) -> None:
    pd.read_parquet(out / "outcomes.parquet")[:-1].to_parquet(out / "outcomes.parquet")


def spoil_verdicts(out: Path) -> None:
    pd.read_parquet(out / "outcomes.parquet").assign(broken_by="").to_parquet(out / "outcomes.parquet")


def remove_parquet(out: Path) -> None:
    (out / "outcomes.parquet").unlink()


def remove_json(out: Path) -> None:
    (out / "evaluation.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_json, "cannot be read"),
        (spoil_schema, "schema 99"),
        (spoil_key, "cannot be read"),
        (spoil_parquet, "cannot be read"),
        (spoil_rows, "different evaluations"),
        (spoil_verdicts, "different evaluations"),
        (remove_parquet, "cannot be read"),
        (remove_json, "holds no evaluation"),
    ],
)
def test_a_spoilt_evaluation_is_refused(split: Split, tmp_path: Path, spoil: Callable[[Path], None], said: str) -> None:
    evaluate(Brightness(), split, run=run_to(tmp_path / "run"), attack="fgsm")
    spoil(tmp_path / "run")
    for load in (load_evaluation, load_figures):
        with pytest.raises(DataError, match=said):
            load(tmp_path / "run")


def test_figures_alone_are_the_same(split: Split, tmp_path: Path) -> None:
    found = evaluate(Brightness(), split, run=run_to(tmp_path / "run"), attack="fgsm")
    assert load_figures(tmp_path / "run").to_dict() == load_evaluation(tmp_path / "run").to_dict() == found.to_dict()
    with pytest.raises(KeyError):  # not a wrong answer
        load_figures(tmp_path / "run").right("robust")


def test_an_attack_object_serves_as_well_as_its_name(split: Split) -> None:
    attack: Attack = PGD(steps=3, loss="margin")
    named, given = (evaluate(Brightness(), split, run=QUIET, attack=a) for a in (str(attack), attack))
    assert isinstance(given, Evaluation)
    assert given.attack == named.attack == "pgd-3:loss=margin"
    pd.testing.assert_frame_equal(given.outcomes, named.outcomes)


def test_an_earlier_versions_file_is_read(split: Split, tmp_path: Path) -> None:
    found = evaluate(Brightness(), split, run=run_to(tmp_path), attack="fgsm", red_flag_examples=4)
    written = json.loads((tmp_path / "evaluation.json").read_text())
    written["checked"] = written.pop("red_flag_examples")
    (tmp_path / "evaluation.json").write_text(json.dumps(written))
    assert load_evaluation(tmp_path).to_dict() == found.to_dict()
