"""Outcomes of cells in one file: what the evaluations say, and none for what has no figures."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from study_helpers import RUN, TINY, written

from robust_transfer.errors import ConfigError, DataError
from robust_transfer.evaluation import load_evaluation
from robust_transfer.study import load_recipe
from robust_transfer.study.outcomes import OUTCOMES, read_outcomes, write_outcomes
from robust_transfer.study.recipe import cells
from robust_transfer.study.store import Store
from robust_transfer.study.work import Workshop

NEAR = TINY["evaluations"]["near"]
EVALUATIONS = {"near": NEAR, "val": {**NEAR, "split": "val"}}


def test_what_is_written_is_what_the_evaluations_say(plain: tuple[Path, pd.DataFrame], tmp_path: Path) -> None:
    shutil.copytree(plain[0], tmp_path / "s")
    store, table = Store(tmp_path / "s"), plain[1].copy()
    table.loc[table.index[0], "failure"] = "loss is no number"
    write_outcomes(store, table)
    found = read_outcomes(store.root)
    assert found is not None
    assert set(found) == {*table["evaluated"][1:]}
    for key, judged in found.items():
        evaluation, right = load_evaluation(store.folder("evaluations", key)), judged.correctness()
        assert judged.ids.tolist() == evaluation.right("clean").index.to_list()
        assert right.clean.tolist() == evaluation.right("clean").to_list()
        assert right.robust.tolist() == evaluation.right("robust").to_list()


def test_another_file_is_refused_and_none_is_none(tmp_path: Path) -> None:
    assert read_outcomes(tmp_path) is None
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / OUTCOMES)
    with pytest.raises(DataError, match="cannot be read"):
        read_outcomes(tmp_path)


def test_an_evaluation_on_val_is_of_vals_images(tmp_path: Path) -> None:
    grid = [{**TINY["grid"][0], "shots": [12], "evaluation": ["near", "val"]}]
    recipe = load_recipe(written(tmp_path, evaluations=EVALUATIONS, grid=grid))
    workshop = Workshop(recipe, Store(tmp_path / "s"), RUN)
    for cell in cells(recipe):
        task = workshop.task(cell.task, cell.shots, cell.seed)
        assert workshop.judged_on(cell) is (task.val if cell.evaluation == "val" else task.test)
    assert len({workshop.evaluation_key(cell) for cell in cells(recipe)}) == len(cells(recipe))
    tasks = {**TINY["tasks"], "few": {**TINY["tasks"]["few"], "val": 0.0}}
    none = load_recipe(written(tmp_path, evaluations=EVALUATIONS, grid=grid, tasks=tasks))
    with pytest.raises(ConfigError, match="is on val, and few has none"):
        Workshop(none, Store(tmp_path / "s"), RUN).refuse_impossible(cells(none))


@pytest.mark.parametrize(
    ("fronts", "message"),
    [
        ({"baseline": "prob"}, "did you mean 'probe'"),
        ({"baseline": "idle"}, "no cell of the grid is of idle"),
        ({"baseline": "probe", "choose": ["near"]}, "test chooses nothing"),
        ({"baseline": "probe", "choose": ["val"]}, "has no evaluation on val at"),
        ({"baseline": "probe", "over": [0.4, 0.2]}, "lower one first"),
        ({"baseline": "probe", "keep": 2.0}, "between 0 and 1"),
    ],
)
def test_fronts_that_cannot_be_are_refused(tmp_path: Path, fronts: dict[str, object], message: str) -> None:
    strategies = {**TINY["strategies"], "idle": {"strategy": "linear-probe"}}
    with pytest.raises(ConfigError, match=message):
        load_recipe(written(tmp_path, fronts=fronts, strategies=strategies, evaluations=EVALUATIONS))
