"""Studies: made once, and what their table says."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from images import write_classes
from study_helpers import RUN, facts, written

from robust_transfer import config
from robust_transfer.checkpoint import load_checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.config import digest
from robust_transfer.data import Split
from robust_transfer.errors import ConfigError, DivergedError, OutputError
from robust_transfer.evaluation import Evaluation, load_evaluation, result
from robust_transfer.evaluation.outcomes import SURVIVED
from robust_transfer.files import append_line
from robust_transfer.manifest import LOCK
from robust_transfer.pretraining import Fast
from robust_transfer.strategies import FineTune, softmax
from robust_transfer.strategies import features as features_module
from robust_transfer.strategies import linear_probe as probe_module
from robust_transfer.strategies.softmax import Solution
from robust_transfer.study import dry_run, load_recipe, run_study
from robust_transfer.study import table as table_module
from robust_transfer.study import work as work_module
from robust_transfer.study.claims import diverged, judge
from robust_transfer.study.recipe import Claim, Recipe, cells
from robust_transfer.study.report import _claims, _told
from robust_transfer.study.store import Store
from robust_transfer.study.table import TIMINGS
from robust_transfer.study.work import Workshop

# every result is evaluated once, without attacks through its source
BRIEF = ["grid.0.evaluation=near", "grid.1.evaluation=near", "evaluations.near.examples=10"]


def test_a_row_a_cell_with_the_figures_of_its_evaluation(plain: tuple[Path, pd.DataFrame], recipe: Recipe) -> None:
    out, table = plain
    assert len(table) == len(cells(recipe)) == 13
    assert facts(pd.read_parquet(out / "table.parquet")).equals(facts(table))
    workshop = Workshop(recipe, Store(out), RUN)
    for row, cell in zip(table.to_dict("records"), cells(recipe), strict=True):
        assert (row["strategy"], row["seed"], row["evaluation"]) == (cell.strategy, cell.seed, cell.evaluation)
        assert row["shots"] == 10
        if cell.each:
            assert row["set.l2"] == cell.each["l2"]
        found = load_evaluation(workshop.evaluation_folder(cell))
        assert (row["clean"], row["robust"]) == (found.clean_accuracy.value, found.robust_accuracy.value)
        assert (row["threat"], row["n"]) == (recipe.evaluations[cell.evaluation].threat, 40)
        assert row["train_images"] + row["val_images"] == 30
        assert row["cost"] >= row["train_images"]
        assert row["source_cost"] > 1000
        assert row["failure"] is None
    assert len(list((out / "sources").iterdir())) == 1
    assert len(list((out / "results").iterdir())) == 6
    assert len(list((out / "evaluations").iterdir())) == 13
    assert set(table["seed"]) == {0, 1}
    [start] = [json.loads(line) for line in (out / "starts.jsonl").read_text().splitlines()]
    assert start["cells"] == 13
    work = table[list(TIMINGS)].sum().sum()
    assert start["seconds"] >= work
    assert f"Wall-clock: {start['seconds'] / 60:.1f} minutes (13 cells)." in (out / "report.md").read_text()
    assert json.loads((out / "findings.json").read_text()) == {"cells": 13, "claims": []}
    for row in table.to_dict("records"):
        assert (out / "evaluations" / row["evaluated"] / "evaluation.json").is_file()


def test_what_is_there_is_not_made_again(
    plain: tuple[Path, pd.DataFrame], recipe: Recipe, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, table = plain
    monkeypatch.setattr(work_module.Workshop, "make", None)
    assert run_study(recipe, out, run=RUN).equals(table)
    assert len((out / "starts.jsonl").read_text().splitlines()) == 1
    assert dry_run(recipe, out, run=RUN).missing == 0
    fewer = load_recipe(path, changes=["grid.0.seed=[1]"])
    assert len(run_study(fewer, out, run=RUN)) == 7
    (out / "starts.jsonl").write_text('{"command": "made by this", "seconds": 90.0, "cells": 13}\n')
    run_study(recipe, out, run=RUN)
    report = (out / "report.md").read_text()
    assert "    made by this\n\nWall-clock: 1.5 minutes (13 cells).\n" in report, "not what wrote the report again"
    more = load_recipe(path, changes=["grid.0.seed=[0, 1, 2]"])
    told = dry_run(more, out, run=RUN)
    assert (told.cells, told.missing, told.results, told.sources) == (19, 6, 3, 0)
    assert told.seconds > 0


def test_what_many_cells_share_is_addressed_and_read_once(
    plain: tuple[Path, pd.DataFrame], recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six results and thirteen evaluations of one source: no address is made twice, no record read twice."""
    out, _ = plain
    addressed, loaded = list[str](), list[Path]()
    digest, load = config.digest, result.load_figures

    def counted(*parts: object) -> str:
        addressed.append(str(parts[0]))
        return digest(*parts)

    def noted(folder: Path) -> Evaluation:
        loaded.append(folder)
        return load(folder)

    monkeypatch.setattr(work_module, "digest", counted)
    monkeypatch.setattr(table_module, "load_figures", noted)
    run_study(recipe, out, run=RUN)
    assert Counter(addressed) == {"source": 1, "result": 6, "evaluation": 13}
    assert len(loaded) == len(set(loaded)) == 13


def test_another_setting_is_another_cell(recipe: Recipe, path: Path, plain: tuple[Path, pd.DataFrame]) -> None:
    store = Store(plain[0])
    first = Workshop(recipe, store, RUN)
    for change in (
        "strategies.tuned.set.epochs=2",
        "tasks.few.classes=[0, 1, 3]",
        "grid.0.shots=[11]",
        "sources.robust.pretrain.set.epochs=2",
        "sources.robust.pretrain.seed=1",
        "grid.0.seed=[5, 6]",
    ):
        other = Workshop(load_recipe(path, changes=[change]), store, RUN)
        pairs = zip(cells(first.recipe), cells(other.recipe), strict=True)
        tuned = [(a, b) for a, b in pairs if a.strategy == "tuned" and a.evaluation != "transferred"]
        assert all(first.result_key(a) != other.result_key(b) for a, b in tuned), change
    other = Workshop(load_recipe(path, changes=["evaluations.near.examples=20"]), store, RUN)
    near = [cell for cell in cells(recipe) if cell.evaluation == "near"]
    assert all(first.result_key(cell) == other.result_key(cell) for cell in near)
    assert all(first.evaluation_key(cell) != other.evaluation_key(cell) for cell in near)


def test_training_that_diverges_is_told_and_stops_nothing(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(path, changes=[*BRIEF, "grid.0.seed=[0]"])

    def diverges(*_: object) -> None:
        raise DivergedError("the loss exploded")

    monkeypatch.setattr(FineTune, "adapt", diverges)
    table = run_study(recipe, tmp_path, run=RUN)
    failed = table["strategy"] == "tuned"
    assert set(table["failure"][failed]) == {"the loss exploded"}
    assert table["failure"][~failed].isna().all()
    assert table["robust"][failed].isna().all()
    assert "diverged" in (tmp_path / "report.md").read_text()
    monkeypatch.setattr(work_module.Workshop, "make", None)  # it would diverge again
    assert run_study(recipe, tmp_path, run=RUN).equals(table)


def test_a_source_that_diverges_is_told_for_all_its_cells(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def diverges(*_: object, **__: object) -> None:
        tried.append(1)
        raise DivergedError("the loss exploded")

    monkeypatch.setattr(Fast, "__call__", diverges)
    table = run_study(recipe, tmp_path, run=RUN)
    assert set(table["failure"]) == {"the source 'robust': the loss exploded"}
    claim, every = Claim(says="x", of={"strategy": "tuned"}), cells(recipe)
    assert diverged(Workshop(recipe, Store(tmp_path), RUN), claim, every) == (table["strategy"] == "tuned").sum()
    assert "training diverged in 2 of its cells" in _claims([_told(claim, None, 2)])
    assert "not measured yet" in _claims([_told(claim, None, 0)])
    assert len(tried) == 1, "it is not tried again"
    assert len(table) == len(cells(recipe))


def test_a_study_goes_on_in_the_precision_it_began_in(
    plain: tuple[Path, pd.DataFrame], recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert json.loads((plain[0] / "study.json").read_text())["precision"] == "float32"
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    auto = dataclasses.replace(RUN, precision="auto")
    assert auto.dtype() is torch.bfloat16
    assert dry_run(recipe, plain[0], run=auto).missing == 0
    assert dry_run(recipe, plain[0] / "other", run=auto).missing > 0


def test_folders_that_are_no_studies_are_left_alone(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(OutputError, match="holds no study"):
        run_study(recipe, tmp_path, run=RUN)
    with pytest.raises(OutputError, match="is a file"):
        run_study(recipe, tmp_path / "mine.txt", run=RUN)
    with pytest.raises(ConfigError, match="give one of them"):
        run_study(recipe, tmp_path / "new", run=RUN, jobs=2, shard="1/2")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("place", ["s3://bucket/study", "file:///tmp/study", "memory://study"])
def test_an_address_is_no_folder(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """As a path it would be a folder called `s3:` here."""
    monkeypatch.chdir(tmp_path)
    for run in (run_study, dry_run):
        with pytest.raises(OutputError, match="is an address: a study needs a folder with locks"):
            run(recipe, Path(place), run=RUN)
    assert not list(tmp_path.iterdir())


def test_what_results_share_is_computed_once(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six results of two seeds: two probes and a warm-started head each, from the features of train and val."""
    recipe = load_recipe(path, changes=BRIEF)
    computed, solved = list[int](), list[tuple[float, ...]]()
    rows, solve = features_module.rows_of, softmax.solve_path

    def counted(classifier: Classifier, split: Split, *more: Any) -> dict[str, torch.Tensor]:
        computed.append(len(split))
        return rows(classifier, split, *more)

    def noted(
        given: torch.Tensor, labels: torch.Tensor, classes: int, path: tuple[float, ...], *more: Any
    ) -> list[Solution]:
        solved.append(path)
        return solve(given, labels, classes, path, *more)

    monkeypatch.setattr(features_module, "rows_of", counted)
    monkeypatch.setattr(probe_module, "solve_path", noted)
    run_study(recipe, tmp_path, run=RUN)
    assert sorted(computed) == [6, 6, 24, 24]
    assert sorted(path[0] for path in solved if len(path) == 1) == [0.01, 0.01, 1.0, 1.0]
    assert len(solved) == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["sources.robust.pretrain.method=natural", "strategies.tuned.set.select=robust"],
            "tuned from robust on few: select=robust needs a source with a threat",
        ),
        (
            ["strategies.tuned={strategy: last-blocks, set: {blocks: 99}}"],
            "tuned from robust on few: the network has 8 blocks, .* blocks=99 is too many",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_trained(
    path: Path, tmp_path: Path, changes: list[str], message: str
) -> None:
    recipe, out = load_recipe(path, changes=changes), tmp_path / "new"
    for run in (run_study, dry_run):
        with pytest.raises(ConfigError, match=message):
            run(recipe, out, run=RUN)
    assert not out.exists()


def test_the_estimate_is_told_before_anything_is_made(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("robust_transfer.study.executors.here", lambda *_: None)
    run_study(recipe, tmp_path / "new", run=dataclasses.replace(RUN, quiet=False))
    assert "13 cells, 13 of them missing: 1 source to train, 6 results to make" in " ".join(
        capsys.readouterr().err.split()
    )


def test_classes_count_the_same_in_the_cells_that_say_so(tmp_path: Path) -> None:
    """Weights are a column and another result; balanced figures are means of recalls, and claims may be about them."""
    counts = {"cat": 40, "dog": 6, "eel": 6}
    data = write_classes(tmp_path / "data" / "train", counts).parent
    write_classes(data / "test", {"cat": 12, "dog": 3, "eel": 3})
    grid = {"source": "bundled", "task": "pets", "strategy": "probe", "evaluation": "near"}
    sides = [{"class_weights": weights} for weights in (None, "balanced")]
    claims = [{"says": "x", "of": sides[1], "less": sides[0], "level": "balanced_robust", "at_least": -1.0},
              {"says": "y", "of": sides[1], "level": "balanced_clean", "at_least": 0.0}]  # fmt: skip
    path = written(
        tmp_path,
        sources={"bundled": {"use": "bundled"}}, tasks={"pets": {"data": "pets"}}, data={"pets": str(data)},
        strategies={"probe": {"strategy": "linear-probe", "set": {"l2": 0.01}}},
        evaluations={"near": {"threat": "linf:0.002", "attack": "fgsm", "transfer_attack_examples": 0}},
        grid=[{**grid, "class_weights": [None, "balanced"]}], claims=claims, scales={"laptop": None},
    )  # fmt: skip
    recipe, out = load_recipe(path), tmp_path / "study"
    table = run_study(recipe, out, run=RUN)
    assert [None if pd.isna(each) else each for each in table["class_weights"]] == [None, "balanced"]
    assert table["weights"].nunique() == 2
    workshop = Workshop(recipe, Store(out), RUN)
    for cell, row in zip(cells(recipe), table.to_dict("records"), strict=True):
        card = load_checkpoint(workshop.result_folder(cell)).card
        assert card.data.get("weights") == cell.class_weights
        outcomes = load_evaluation(workshop.evaluation_folder(cell)).outcomes
        recalls = [(rows["broken_by"] == SURVIVED).mean() for _, rows in outcomes.groupby("label")]
        assert len(recalls) == 3
        assert row["balanced_robust"] == pytest.approx(sum(recalls) / 3)
    plain, balanced = table["balanced_robust"]
    gap, alone = (judge(workshop, claim, cells(recipe)) for claim in recipe.claims)
    assert gap is not None
    assert alone is not None
    assert gap.figure.value == pytest.approx(balanced - plain)
    assert alone.figure.value == pytest.approx(table["balanced_clean"][1])
    assert alone.figure.low < alone.figure.value < alone.figure.high or alone.figure.high == 1.0
    page = (out / "report.md").read_text(encoding="utf-8")
    assert "| class_weights |" in page
    assert "balanced robust, %" in page
    with pytest.raises(ConfigError, match="class_weights"):
        load_recipe(path, changes=["grid.0.class_weights=[even]"])
    with pytest.raises(ConfigError, match="no balanced level"):
        Claim(says="x", of={}, above={}, level="balanced_clean")


def test_further_threats_and_corruptions_are_columns_of_the_table(tmp_path: Path) -> None:
    """Of the evaluation's own images; an evaluation without them has the address that it had before there were any."""
    grid = {"source": "bundled", "task": "few", "strategy": "probe", "evaluation": ["near", "far"], "shots": 10}
    near = {"threat": "linf:0.002", "attack": "fgsm", "transfer_attack_examples": 0, "examples": 4}
    path = written(
        tmp_path,
        sources={"bundled": {"use": "bundled"}}, tasks={"few": {"data": "builtin:digits", "classes": [0, 1]}},
        strategies={"probe": {"strategy": "linear-probe", "set": {"l2": 0.01}}},
        evaluations={"near": {**near, "also": ["l2:0.1", "linf:8/255"], "corruptions": True}, "far": near},
        grid=[grid], scales={"laptop": None},
    )  # fmt: skip
    recipe, out = load_recipe(path), tmp_path / "study"
    rows = {row["evaluation"]: row for row in run_study(recipe, out, run=RUN).to_dict("records")}
    workshop = Workshop(recipe, Store(out), RUN)
    near_cell, far_cell = cells(recipe)
    found = load_evaluation(workshop.evaluation_folder(near_cell))
    assert found.corrupted is not None
    assert rows["near"]["corrupted"] == found.corrupted.accuracy.value
    for one in found.further:
        assert rows["near"][f"also.{one.threat}"] == one.robust_accuracy.value
        assert rows["near"][f"also.{one.threat}_high"] == one.robust_accuracy.high
    assert rows["near"]["also.linf:8/255"] <= rows["near"]["robust"], "a break within a ball is one within a larger one"
    assert pd.isna(rows["far"]["corrupted"])
    settings = {"threat": "linf:0.002", "attack": "fgsm", "examples": 4, "beyond": 0, "checks": 0}
    settings["judged"] = workshop.judged_on(far_cell).hash
    before = digest(
        "evaluation", workshop.result_key(far_cell), {k: settings[k] for k in settings if k != "judged"}, "float32",
        settings["judged"],
    )  # fmt: skip
    assert workshop.evaluation_key(far_cell) == before
    assert workshop.evaluation_key(near_cell) != before


def test_data_that_a_setting_names_is_addressed_by_its_content(path: Path, tmp_path: Path) -> None:
    """A name among the recipe's data; the same images elsewhere give the same result, other images another."""
    places = [
        write_classes(tmp_path / name / "train", {"a": n, "b": n}).parent
        for name, n in zip("xyz", (9, 9, 10), strict=True)
    ]
    shift = ["strategies.probe.set.penalty=shift", "strategies.probe.set.source_data=own"]
    keys = list[str]()
    for place in places:
        given = load_recipe(path, changes=[*BRIEF, *shift, f"data.own={place}"])
        workshop = Workshop(given, Store(tmp_path / "out"), RUN)
        cell = next(cell for cell in cells(given) if cell.strategy == "probe")
        assert str(place) == config.as_dict(workshop.strategy(cell))["source_data"]
        keys.append(workshop.result_key(cell))
    assert keys[0] == keys[1] != keys[2]


def test_what_was_killed_after_its_result_is_tidied_by_the_next_start(
    plain: tuple[Path, pd.DataFrame], recipe: Recipe, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    shutil.copytree(plain[0], out)
    (result,) = list((out / "results").iterdir())[:1]
    for name in (LOCK, "state/state.safetensors", ".card.json.0123456789ab"):
        (result / name).parent.mkdir(exist_ok=True)
        (result / name).write_text("")
    append_line(out / "starts.jsonl", '{"command": "cut sh')
    before = {path.relative_to(plain[0]) for path in plain[0].rglob("*") if path.is_file()}
    run_study(recipe, out, run=RUN)
    assert {path.relative_to(out) for path in out.rglob("*") if path.is_file()} == before
