"""Studies: made once, gone on with after a kill, the same whoever computes them; and what the table and claims say."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from study_helpers import TINY, written

from robust_transfer.classifier import Classifier
from robust_transfer.data import Split
from robust_transfer.errors import ConfigError, DivergedError, OutputError
from robust_transfer.evaluation import load_evaluation
from robust_transfer.pretraining import Fast
from robust_transfer.run import Run
from robust_transfer.statistics.frontier_gain import Correctness, above_front, place
from robust_transfer.statistics.intervals import Difference
from robust_transfer.strategies import FineTune, softmax
from robust_transfer.strategies import features as features_module
from robust_transfer.strategies import linear_probe as probe_module
from robust_transfer.strategies.softmax import Solution
from robust_transfer.study import dry_run, load_recipe, run_study
from robust_transfer.study import work as work_module
from robust_transfer.study.claims import _verdict, diverged, judge
from robust_transfer.study.executors import anywhere, groups, shard
from robust_transfer.study.recipe import Claim, Recipe, SourceSpec, cells, matches
from robust_transfer.study.report import _claims
from robust_transfer.study.store import Store
from robust_transfer.study.table import TIMINGS
from robust_transfer.study.work import Workshop

RUN = Run(quiet=True, threads=1, precision="float32", device="cpu")
WANTED = {
    "grid": [{**TINY["grid"][0], "shots": [10], "evaluation": ["near", "far"]}],
    "evaluations": {**TINY["evaluations"], "far": {"threat": "linf:0.2", "attack": "pgd-2", "examples": 40}},
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("recipe"), **WANTED)


@pytest.fixture(scope="module")
def recipe(path: Path) -> Recipe:
    return load_recipe(path)


@pytest.fixture(scope="module")
def plain(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """The study in one process."""
    out = tmp_path_factory.mktemp("plain")
    return out, run_study(recipe, out, run=RUN)


def facts(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns=list(TIMINGS))


def test_a_row_a_cell_with_the_figures_of_its_evaluation(plain: tuple[Path, pd.DataFrame], recipe: Recipe) -> None:
    out, table = plain
    assert len(table) == len(cells(recipe)) == 12
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
    assert len(list((out / "evaluations").iterdir())) == 12
    assert set(table["seed"]) == {0, 1}
    [start] = [json.loads(line) for line in (out / "starts.jsonl").read_text().splitlines()]
    assert start["cells"] == 12
    work = table[list(TIMINGS)].sum().sum()
    assert start["seconds"] >= work
    assert f"Wall-clock: {start['seconds'] / 60:.1f} minutes (12 cells)." in (out / "report.md").read_text()


def test_what_is_there_is_not_made_again(
    plain: tuple[Path, pd.DataFrame], recipe: Recipe, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, table = plain
    monkeypatch.setattr(work_module.Workshop, "make", None)
    assert run_study(recipe, out, run=RUN).equals(table)
    assert len((out / "starts.jsonl").read_text().splitlines()) == 1
    assert dry_run(recipe, out, run=RUN).missing == 0
    fewer = load_recipe(path, changes=["grid.0.seed=[1]"])
    assert len(run_study(fewer, out, run=RUN)) == 6
    (out / "starts.jsonl").write_text('{"command": "made by this", "seconds": 90.0, "cells": 12}\n')
    run_study(recipe, out, run=RUN)
    report = (out / "report.md").read_text()
    assert "    made by this\n\nWall-clock: 1.5 minutes (12 cells).\n" in report, "not what wrote the report again"
    more = load_recipe(path, changes=["grid.0.seed=[0, 1, 2]"])
    told = dry_run(more, out, run=RUN)
    assert (told.cells, told.missing, told.results, told.sources) == (18, 6, 3, 0)
    assert told.seconds > 0


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
        tuned = [(a, b) for a, b in pairs if a.strategy == "tuned"]
        assert all(first.result_key(a) != other.result_key(b) for a, b in tuned), change
    other = Workshop(load_recipe(path, changes=["evaluations.near.examples=20"]), store, RUN)
    near = [cell for cell in cells(recipe) if cell.evaluation == "near"]
    assert all(first.result_key(cell) == other.result_key(cell) for cell in near)
    assert all(first.evaluation_key(cell) != other.evaluation_key(cell) for cell in near)


@pytest.mark.parametrize("after", [pytest.param(0.2, marks=pytest.mark.slow), 0.8])
def test_a_killed_study_goes_on_to_the_same_table(
    plain: tuple[Path, pd.DataFrame], recipe: Recipe, path: Path, tmp_path: Path, after: float
) -> None:
    """Killed when so large a share of its folders is there."""
    out, wanted = tmp_path / "killed", int(after * 19)
    command = [sys.executable, "-m", "robust_transfer.cli", "study", str(path), "--out", str(out)]
    child = subprocess.Popen([*command, "--threads", "1", "--quiet", "--precision", "float32"], start_new_session=True)
    deadline = time.monotonic() + 200
    while len([p for kind in ("sources", "results", "evaluations") for p in out.glob(f"{kind}/*")]) < wanted:
        assert child.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    assert not (out / "table.parquet").exists()
    assert facts(run_study(recipe, out, run=RUN)).equals(facts(plain[1]))


def test_two_processes_make_the_same_table(plain: tuple[Path, pd.DataFrame], recipe: Recipe, tmp_path: Path) -> None:
    found = run_study(recipe, tmp_path / "jobs", run=RUN, jobs=2)
    assert facts(found).equals(facts(plain[1]))


def test_two_shards_make_the_same_table(plain: tuple[Path, pd.DataFrame], recipe: Recipe, tmp_path: Path) -> None:
    first = run_study(recipe, tmp_path / "shards", run=RUN, shard="1/2")
    assert 0 < len(first) < 12
    second = run_study(recipe, tmp_path / "shards", run=RUN, shard="2/2")
    assert facts(second).equals(facts(plain[1]))
    work = groups(recipe)
    assert sorted(map(repr, [*shard("1/2", work), *shard("2/2", work)])) == sorted(map(repr, work))
    for text in ("0/2", "3/2", "1", "1/0"):
        with pytest.raises(ConfigError, match="write i/n"):
            shard(text, work)


def test_processes_that_start_in_other_folders_find_what_the_recipe_names(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("photos", "source", "bundled"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    given = {"own": SourceSpec(use="source"), "ours": SourceSpec(use="bundled"), "far": SourceSpec(use="hf:A/B")}
    data = {"here": "photos", "digits": "builtin:digits"}
    sent = anywhere(dataclasses.replace(recipe, sources={**recipe.sources, **given}, data=data))
    monkeypatch.chdir("/")
    assert sent.data == {"here": str(tmp_path / "photos"), "digits": "builtin:digits"}
    used = {name: sent.sources[name].use for name in (*given, "robust")}
    assert used == {"robust": None, "own": str(tmp_path / "source"), "ours": "bundled", "far": "hf:A/B"}


@pytest.mark.slow
def test_ray_makes_the_same_table(plain: tuple[Path, pd.DataFrame], recipe: Recipe, tmp_path: Path) -> None:
    found = run_study(recipe, tmp_path / "ray", run=RUN, ray="local")
    assert facts(found).equals(facts(plain[1]))


@pytest.mark.slow
def test_a_team_of_two_processes_trains_each_cell_together(path: Path, recipe: Recipe, tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = ["-m", "robust_transfer.cli", "study", str(path), "--out", str(tmp_path / "team"), "--threads", "1"]
    child = subprocess.run([*launch, *command, "--quiet"], capture_output=True, text=True, timeout=400)
    assert child.returncode == 0, child.stderr[-3000:]
    table = pd.read_parquet(tmp_path / "team" / "table.parquet")
    assert len(table) == len(cells(recipe))
    assert table["failure"].isna().all()
    for log in (tmp_path / "team").glob("*/*/metrics.jsonl"):
        assert "2 processes" in log.read_text()
    assert len(list((tmp_path / "team").glob("sources/*/metrics.jsonl"))) == 1


def test_training_that_diverges_is_told_and_stops_nothing(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    assert "training diverged in 2 of its cells" in _claims([(claim, None, 2)])
    assert "not measured yet" in _claims([(claim, None, 0)])
    assert len(tried) == 1, "it is not tried again"
    assert len(table) == len(cells(recipe))


def test_none_of_few_images_is_not_taken_for_none_of_all(plain: tuple[Path, pd.DataFrame], recipe: Recipe) -> None:
    """Where no image stands, resampling finds none either; Wilson's interval knows better."""
    workshop, every = Workshop(recipe, Store(plain[0]), RUN), cells(recipe)
    rows = plain[1][(plain[1]["strategy"] == "tuned") & (plain[1]["evaluation"] == "far")]
    found = judge(workshop, Claim(says="x", of={"strategy": "tuned", "evaluation": "far"}, at_most=0.01), every)
    assert found is not None
    assert found.figure.high >= rows["robust_high"].min() > 0.01
    same = {"strategy": "tuned", "evaluation": "far"}
    nothing = judge(workshop, Claim(says="x", of=same, less=same, at_least=0.0), every)
    assert nothing is not None
    assert nothing.verdict == "open", "two that are the same are not one above the other"


def test_claims_are_judged_by_their_intervals(plain: tuple[Path, pd.DataFrame], recipe: Recipe) -> None:
    out, table = plain
    workshop, every = Workshop(recipe, Store(out), RUN), cells(recipe)
    near, far = ({"strategy": "tuned", "evaluation": name} for name in ("near", "far"))
    rows = table[table["strategy"] == "tuned"].set_index(["evaluation", "seed"])["robust"]
    gaps = [rows["near", seed] - rows["far", seed] for seed in (0, 1)]

    def judged(**bounds: Any) -> str:
        found = judge(workshop, Claim(says="x", of=near, less=far, **bounds), every)
        assert found is not None
        assert found.by_seed == pytest.approx(gaps)
        assert found.figure.value == pytest.approx(sum(gaps) / 2)
        return found.verdict

    assert judged(at_least=0.0) == "holds"
    assert judged(at_least=0.99) == "fails"
    assert judged(at_most=-0.01) == "fails"
    assert judged(at_least=sum(gaps) / 2) == "open"
    mean = judge(workshop, Claim(says="x", of=near, at_most=1.0), every)
    assert mean is not None
    assert mean.verdict == "holds"
    assert mean.figure.value == pytest.approx(rows["near"].mean())


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.0, 0.02, "open"), (0.001, 0.02, "holds"), (-0.02, 0.0, "open")]
)
def test_a_difference_whose_interval_touches_0_is_open(low: float, high: float, verdict: str) -> None:
    claim = Claim(says="x", of={"a": 1}, less={"a": 2}, at_least=0.0)
    assert _verdict(claim, Difference((low + high) / 2, low, high)) == verdict
    level = Claim(says="x", of={"a": 1}, at_most=0.0)  # a level, not a difference: 0 is 0
    assert _verdict(level, Difference(0.0, 0.0, 0.0)) in ("open", "holds")


def test_a_claim_about_cost_is_a_ratio_by_seed(plain: tuple[Path, pd.DataFrame], recipe: Recipe) -> None:
    workshop, every = Workshop(recipe, Store(plain[0]), RUN), cells(recipe)
    which = {"evaluation": "near"}
    cost = plain[1][plain[1]["evaluation"] == "near"].set_index(["strategy", "set.l2", "seed"])["cost"]
    tuned, probe = ({**which, "strategy": "tuned"}, {**which, "strategy": "probe", "set.l2": 0.01})
    found = judge(workshop, Claim(says="x", of=tuned, less=probe, level="cost", at_least=1.0), every)
    assert found is not None
    ratios = [cost["tuned"].xs(seed, level="seed").item() / cost["probe", 0.01, seed] for seed in (0, 1)]
    assert found.by_seed == pytest.approx(ratios)
    assert (found.figure.low, found.figure.high) == pytest.approx((min(ratios), max(ratios)))
    assert found.verdict == ("holds" if min(ratios) >= 1 else "open")
    assert "times" in str(found)
    alone = judge(workshop, Claim(says="x", of=tuned, level="cost", at_most=1.0), every)
    assert alone is not None
    assert alone.figure.value == pytest.approx(cost["tuned"].mean())
    assert alone.verdict == "fails"


def test_a_claim_about_a_front_is_about_all_of_its_cells(plain: tuple[Path, pd.DataFrame], recipe: Recipe) -> None:
    workshop, every = Workshop(recipe, Store(plain[0]), RUN), cells(recipe)
    near = {"evaluation": "near"}

    def rights(**which: object) -> list[Correctness]:
        found = [load_evaluation(workshop.evaluation_folder(c)) for c in every if matches(c, {**near, **which})]
        return [Correctness(e.right("clean").to_numpy(float), e.right("robust").to_numpy(float)) for e in found]

    claim = Claim(says="x", of={**near, "strategy": "tuned"}, above={**near, "strategy": "probe"}, at_least=-1.0)
    found = judge(workshop, claim, every)
    assert found is not None
    points, fronts = rights(strategy="tuned"), [rights(strategy="probe", seed=seed) for seed in (0, 1)]
    assert [len(front) for front in fronts] == [2, 2]
    assert found.figure == above_front(points, fronts)
    assert found.by_seed == pytest.approx([above_front([p], [f]).value for p, f in zip(points, fronts, strict=True)])
    assert found.verdict == ("open" if place(points, fronts) == "below" else "holds")
    assert diverged(workshop, claim, every) == 0


def test_a_study_goes_on_in_the_precision_it_began_in(
    plain: tuple[Path, pd.DataFrame], recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert json.loads((plain[0] / "study.json").read_text())["precision"] == "float32"
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    auto = dataclasses.replace(RUN, precision="auto")
    assert auto.dtype() is torch.bfloat16
    assert dry_run(recipe, plain[0], run=auto).missing == 0
    assert dry_run(recipe, plain[0] / "other", run=auto).missing > 0


def test_a_claim_whose_cells_are_not_done_is_open(recipe: Recipe, tmp_path: Path) -> None:
    workshop = Workshop(recipe, Store(tmp_path), RUN)
    assert judge(workshop, Claim(says="x", of={"strategy": "tuned", "evaluation": "near"}), cells(recipe)) is None


def test_a_claim_about_several_cells_a_seed_is_refused(plain: tuple[Path, pd.DataFrame], recipe: Recipe) -> None:
    workshop = Workshop(recipe, Store(plain[0]), RUN)
    with pytest.raises(ConfigError, match="picks several"):
        judge(workshop, Claim(says="x", of={"strategy": "probe"}), cells(recipe))


def test_folders_that_are_no_studies_are_left_alone(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(OutputError, match="holds no study"):
        run_study(recipe, tmp_path, run=RUN)
    with pytest.raises(OutputError, match="is a file"):
        run_study(recipe, tmp_path / "mine.txt", run=RUN)
    with pytest.raises(ConfigError, match="give one of them"):
        run_study(recipe, tmp_path / "new", run=RUN, jobs=2, shard="1/2")
    assert not (tmp_path / "new").exists()


def test_what_results_share_is_computed_once(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six results of two seeds: two probes and a warm-started head each, from the features of train and val."""
    computed, solved = list[int](), list[tuple[float, ...]]()
    features, solve = features_module._computed, softmax.solve_path

    def counted(classifier: Classifier, split: Split, run: Run) -> torch.Tensor:
        computed.append(len(split))
        return features(classifier, split, run)

    def noted(given: torch.Tensor, labels: torch.Tensor, classes: int, path: tuple[float, ...]) -> list[Solution]:
        solved.append(path)
        return solve(given, labels, classes, path)

    monkeypatch.setattr(features_module, "_computed", counted)
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
    assert "12 cells, 12 of them missing: 1 source to train, 6 results to make" in " ".join(
        capsys.readouterr().err.split()
    )
