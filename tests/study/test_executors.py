"""Executors: whoever computes a study's cells, and however often it is killed, the table is the same."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import pytest
from study_helpers import RUN, facts

from robust_transfer.errors import ConfigError
from robust_transfer.run import Run
from robust_transfer.study import dry_run, load_recipe, local_crew, run_study
from robust_transfer.study.executors import anywhere, groups, shard, threads_for
from robust_transfer.study.local_crew import POOLS, limit_threads, pools_of
from robust_transfer.study.recipe import Recipe, SourceSpec, cells

SEED = ["grid.0.seed=[0]"]


@pytest.fixture(scope="module")
def small(path: Path) -> Recipe:
    """One seed of the study: two show nothing more here."""
    return load_recipe(path, changes=SEED)


@pytest.fixture(scope="module")
def wanted(plain: tuple[Path, pd.DataFrame], small: Recipe, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Its table, of what the study in one process made."""
    out = tmp_path_factory.mktemp("wanted") / "study"
    shutil.copytree(plain[0], out)
    assert dry_run(small, out, run=RUN).missing == 0
    return facts(run_study(small, out, run=RUN))


@pytest.mark.parametrize("after", [pytest.param(0.2, marks=pytest.mark.slow), 0.8])
def test_a_killed_study_goes_on_to_the_same_table(
    wanted: pd.DataFrame, small: Recipe, path: Path, tmp_path: Path, after: float
) -> None:
    """Killed when so large a share of its folders is there: a source, three results and seven evaluations."""
    out, enough = tmp_path / "killed", int(after * 11)
    command = [sys.executable, "-m", "robust_transfer.cli", "study", str(path), "--out", str(out), "--set", *SEED]
    child = subprocess.Popen([*command, "--threads", "1", "--quiet", "--precision", "float32"], start_new_session=True)
    deadline = time.monotonic() + 200
    while len([p for kind in ("sources", "results", "evaluations") for p in out.glob(f"{kind}/*")]) < enough:
        assert child.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    assert not (out / "table.parquet").exists()
    assert facts(run_study(small, out, run=RUN)).equals(wanted)


def test_two_processes_make_the_same_table(wanted: pd.DataFrame, small: Recipe, tmp_path: Path) -> None:
    found = run_study(small, tmp_path / "jobs", run=RUN, jobs=2)
    assert facts(found).equals(wanted)
    records = [json.loads(path.read_text()) for path in (tmp_path / "jobs").glob("evaluations/*/evaluation.json")]
    assert {record["hardware"]["threads"] for record in records} == {RUN.threads}


@pytest.mark.parametrize(
    ("cores", "jobs", "said", "given", "threads"),
    [
        (8, 2, None, None, 4),
        (8, 3, None, None, 2),
        (2, 5, None, None, 1),
        (8, 2, "3", None, 3),
        (8, 2, "16", None, 4),
        (8, 2, "4,2", None, 4),
        (8, 2, "3", 7, 7),
    ],
)
def test_each_process_has_its_share_of_the_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, jobs: int, said: str | None, given: int | None, threads: int
) -> None:
    """Of those that this process may use, which in a container are not all that there are."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if said is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert threads_for(jobs, Run(threads=given)).threads == threads


def pools_of_a_process() -> dict[str, int]:
    """The threads of each library, asked in a process of a study; PyTorch's own OpenMP among them."""
    import pyarrow as pa
    import sklearn.linear_model  # noqa: F401 (its OpenMP, and SciPy's BLAS)
    import threadpoolctl
    import torch

    found = {info["filepath"]: int(info["num_threads"]) for info in threadpoolctl.threadpool_info()}
    return {**found, "torch": torch.get_num_threads(), "arrow": pa.cpu_count()}


def test_a_process_has_that_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in POOLS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with pools_of(1), ProcessPoolExecutor(1, get_context("spawn"), limit_threads, (1,)) as workers:
        found = workers.submit(pools_of_a_process).result(timeout=120)
    assert {"torch", "arrow"} < found.keys()
    assert set(found.values()) == {1}, found
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


def test_two_shards_make_the_same_table(wanted: pd.DataFrame, small: Recipe, tmp_path: Path) -> None:
    first = run_study(small, tmp_path / "shards", run=RUN, shard="1/2")
    assert 0 < len(first) < 7
    second = run_study(small, tmp_path / "shards", run=RUN, shard="2/2")
    assert facts(second).equals(wanted)
    work = groups(small)
    assert sorted(map(repr, [*shard("1/2", work), *shard("2/2", work)])) == sorted(map(repr, work))
    for text in ("0/2", "3/2", "1", "1/0"):
        with pytest.raises(ConfigError, match="write i/n"):
            shard(text, work)


def test_processes_that_start_in_other_folders_find_what_the_recipe_names(
    small: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("photos", "source", "bundled"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    given = {"own": SourceSpec(use="source"), "ours": SourceSpec(use="bundled"), "far": SourceSpec(use="hf:A/B")}
    data = {"here": "photos", "digits": "builtin:digits"}
    sent = anywhere(dataclasses.replace(small, sources={**small.sources, **given}, data=data))
    monkeypatch.chdir("/")
    assert sent.data == {"here": str(tmp_path / "photos"), "digits": "builtin:digits"}
    used = {name: sent.sources[name].use for name in (*given, "robust")}
    assert used == {"robust": None, "own": str(tmp_path / "source"), "ours": "bundled", "far": "hf:A/B"}


@pytest.mark.slow
def test_ray_makes_the_same_table(wanted: pd.DataFrame, small: Recipe, tmp_path: Path) -> None:
    found = run_study(small, tmp_path / "ray", run=RUN, ray="local")
    assert facts(found).equals(wanted)


@pytest.mark.slow
def test_a_team_of_two_processes_trains_each_cell_together(path: Path, small: Recipe, tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = ["-m", "robust_transfer.cli", "study", str(path), "--out", str(tmp_path / "team"), "--set", *SEED]
    child = subprocess.run(
        [*launch, *command, "--threads", "1", "--quiet"], capture_output=True, text=True, timeout=400
    )
    assert child.returncode == 0, child.stderr[-3000:]
    table = pd.read_parquet(tmp_path / "team" / "table.parquet")
    assert len(table) == len(cells(small))
    assert table["failure"].isna().all()
    for log in (tmp_path / "team").glob("*/*/metrics.jsonl"):
        assert "2 processes" in log.read_text()
    assert len(list((tmp_path / "team").glob("sources/*/metrics.jsonl"))) == 1


def test_a_worker_ends_with_the_process_that_hired_it(
    small: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of its work, too: it would hold its locks for as long as a cell takes."""
    monkeypatch.setattr(local_crew, "Workshop", lambda *_: time.sleep(60))
    noted = tmp_path / "worker"
    parent = os.fork()
    if parent == 0:
        context = get_context("fork")
        _ours, theirs = context.Pipe()
        worker = context.Process(target=local_crew._serve, args=(theirs, small, None, RUN))
        worker.start()
        noted.write_text(str(worker.pid))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(parent, 0)
    state, deadline = Path(f"/proc/{noted.read_text()}/stat"), time.monotonic() + 30
    while state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline, "it works on"
        time.sleep(0.02)
