"""Run folders as they are found: whole, half-written, of another network, one inside another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from report_helpers import evaluation, network, outcomes

from robust_transfer.checkpoint import stored_hash
from robust_transfer.errors import DataError
from robust_transfer.report.gather import gather, short_names

NAMES = tuple("0123456789")


def evaluated(folder: Path, model_hash: str = "m" * 16) -> None:
    evaluation(outcomes(classes=10), NAMES, model_hash=model_hash).save(folder)


def test_an_evaluation_elsewhere_is_known_by_the_weights(tmp_path: Path) -> None:
    made = network(seed=1).save(tmp_path / "a")
    network(seed=2).save(tmp_path / "b")
    assert stored_hash(tmp_path / "a") == made.hash
    evaluated(tmp_path / "later", made.hash)
    evaluated(tmp_path / "lone", "f" * 16)
    entries = {entry.name: entry for entry in gather([tmp_path])}
    assert list(entries) == ["b", "a, evaluated in later", "lone"]
    assert entries["b"].evaluation is None
    joined = entries["a, evaluated in later"]
    assert joined.card is not None
    assert joined.short == "a"
    assert entries["lone"].card is None


def test_weights_in_half_precision_have_the_hash_of_what_is_loaded(tmp_path: Path) -> None:
    import torch

    made = network(seed=1).save(tmp_path / "a", dtype=torch.float16)
    assert stored_hash(tmp_path / "a") == made.hash


def test_an_evaluation_inside_its_run_folder_is_one_entry(tmp_path: Path) -> None:
    made = network().save(tmp_path / "run")
    evaluated(tmp_path / "run", made.hash)
    evaluated(tmp_path / "run" / "again", made.hash)
    assert [entry.name for entry in gather([tmp_path / "run"])] == ["run", "run, evaluated in again"]
    assert len(gather([tmp_path / "run", tmp_path])) == 2  # each once, however it is reached


def test_what_is_half_written_is_said(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    (begun / "state").mkdir(parents=True)
    (begun / "metrics.jsonl").write_text(
        '{"step": 1, "loss": 2.0}\n{"step": 2, "event": "rate halved"}\n{"step": 3, "lo'
    )
    [entry] = gather([begun])
    assert entry.network is not None
    assert entry.network.log[0] == {"step": 1, "loss": 2.0}
    assert "Its log says: rate halved." in entry.problems
    assert any("There is no result: the run was interrupted" in told for told in entry.problems)
    assert any("1 line of the log" in told for told in entry.problems)


def test_an_evaluation_that_was_cut_short_says_how_far_it_came(tmp_path: Path) -> None:
    table = outcomes(10)
    table["faced"] = [1] * 4 + [0] * 6
    (tmp_path / "cut" / "state").mkdir(parents=True)
    table.to_parquet(tmp_path / "cut" / "state" / "outcomes.parquet")
    [entry] = gather([tmp_path / "cut"])
    [told] = entry.problems
    assert "4 of 10 images" in told
    (tmp_path / "cut" / "state" / "outcomes.parquet").write_bytes(b"PAR1")
    [told] = gather([tmp_path / "cut"])[0].problems
    assert told.startswith("An evaluation was interrupted. ")


def test_damaged_records_are_said_and_nothing_is_guessed(tmp_path: Path) -> None:
    network().save(tmp_path / "run")
    (tmp_path / "run" / "model.safetensors").unlink()
    evaluated(tmp_path / "run")
    (tmp_path / "run" / "evaluation.json").write_text("{")
    [entry] = gather([tmp_path / "run"])
    assert entry.evaluation is None
    assert any("weights are missing" in told for told in entry.problems)
    assert any("evaluation" in told and "cannot be read" in told for told in entry.problems)


def test_a_cell_of_a_study_that_diverged_tells_why(tmp_path: Path) -> None:
    (tmp_path / "cell").mkdir()
    (tmp_path / "cell" / "failed.json").write_text(json.dumps({"reason": "the loss exploded"}))
    assert gather([tmp_path])[0].problems == ("There is no result: the loss exploded.",)


@pytest.mark.parametrize("place", ["empty", "no-such", "file"])
def test_a_path_without_runs_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="give what transfer, pretrain, import, evaluate or study wrote"):
        gather([tmp_path / place])


def test_names_are_as_long_as_they_must_be(tmp_path: Path) -> None:
    folders = [tmp_path / "a" / "seed0", tmp_path / "b" / "seed0", tmp_path / "b" / "seed1"]
    assert list(short_names(folders).values()) == ["a/seed0", "b/seed0", "seed1"]
