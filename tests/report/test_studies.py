"""A study's folder: cells that differ in their seed alone are one, and only what was evaluated alike is compared."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from report_helpers import NASTY, evaluation, network, outcomes, study

from robust_transfer.errors import DataError
from robust_transfer.report.gather import split
from robust_transfer.report.studies import read_study


def test_seeds_are_taken_together_and_named_by_what_the_study_varies(tmp_path: Path) -> None:
    [one] = read_study(study(tmp_path / "s")).comparisons
    assert [group.name for group in one.groups] == [
        "robust, l2 = 1", "robust, l2 = 0.1", "natural, l2 = 1", "natural, l2 = 0.1",
    ]  # fmt: skip
    assert [group.seeds for group in one.groups] == [(0, 1)] * 4
    assert [group.clean.value for group in one.groups] == pytest.approx([0.51, 0.63, 0.7, 0.82])
    assert [group.robust.value for group in one.groups] == pytest.approx([0.39, 0.31, 0.0, 0.01])
    assert one.groups[1].passes == pytest.approx(1000)
    assert (one.n, one.threat, one.attack, one.constant) == (50, "linf:8/255", "pgd-20", 0.2)


def test_cells_of_another_evaluation_or_task_are_another_comparison(tmp_path: Path) -> None:
    folder = study(tmp_path / "s")
    table = pd.read_parquet(folder / "table.parquet")
    far = table.assign(evaluation="far", threat="linf:16/255", robust=0.0)
    pd.concat([table, far]).to_parquet(folder / "table.parquet")
    near, other = read_study(folder).comparisons
    assert (near.name, near.threat) == ("near, own", "linf:8/255")
    assert (other.name, other.threat) == ("far, own", "linf:16/255")
    assert all(group.robust.value == 0 for group in other.groups)


def test_cells_without_figures_are_counted_and_not_averaged(tmp_path: Path) -> None:
    found = read_study(study(tmp_path / "s", lost=3))
    [one] = found.comparisons
    assert [(group.name, group.seeds, group.lost) for group in one.groups][2:] == [("natural, l2 = 1", (0,), 1)]
    assert len(found.table) == 8
    assert found.cells == 9


def test_networks_on_the_front_are_those_in_full(tmp_path: Path) -> None:
    folder = study(tmp_path / "s")
    names = tuple("0123456789")
    for key in ("robust-1-1-0", "natural-0.1-1-0", "natural-1-1-0"):  # the last one is on no front
        made = network(names).save(folder / "results" / key)
        evaluation(outcomes(classes=10), names, model_hash=made.hash).save(folder / "evaluations" / key)
    shown = read_study(folder).shown()
    assert [entry.name for entry, _ in shown] == ["robust, l2 = 1, seed 0", "natural, l2 = 0.1, seed 0"]
    assert {where for _, where in shown} == {"builtin:digits"}
    assert all(entry.card is not None and entry.evaluation is not None for entry, _ in shown)


def test_a_study_is_found_below_a_folder_and_its_runs_are_not_runs_by_themselves(tmp_path: Path) -> None:
    folder = study(tmp_path / "all" / "s")
    network(NASTY).save(folder / "results" / "x")
    network(NASTY, seed=1).save(tmp_path / "all" / "alone")
    entries, studies = split([tmp_path / "all", folder])
    assert [entry.name for entry in entries] == ["alone"]
    assert studies == [folder]
    assert [entry.name for entry in split([folder / "results" / "x"])[0]] == ["x"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"recipe": 5}', '{"recipe": {"name": "x", "newer": 1}}'])
def test_a_damaged_study_is_one_sentence(tmp_path: Path, text: str) -> None:
    folder = study(tmp_path / "s")
    (folder / "study.json").write_text(text)
    with pytest.raises(DataError, match=r"the study in .* cannot be read"):
        read_study(folder)


def test_a_study_of_which_nothing_is_made_yet(tmp_path: Path) -> None:
    folder = study(tmp_path / "s")
    for name in ("table.parquet", "findings.json", "starts.jsonl"):
        (folder / name).unlink()
    found = read_study(folder)
    assert (found.comparisons, found.shown(), found.cells) == ([], [], 0)
    assert json.loads((folder / "study.json").read_text())["precision"] == "float32"
