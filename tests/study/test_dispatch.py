"""Deaths of workers: the job is tried again, then given up; everything else is made, with the same numbers."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import yaml
from plugin import installed
from study_helpers import NEAR, RUN, TINY, facts
from typer.testing import CliRunner

from robust_transfer.cli import app
from robust_transfer.errors import ConfigError, DivergedError
from robust_transfer.strategies import STRATEGIES
from robust_transfer.study import load_recipe, run_study
from robust_transfer.study.dispatch import (
    MAX_DEATHS,
    MAX_GIVEN_UP,
    Answer,
    Crew,
    Job,
    Worker,
    WorkerDiedError,
    dispatch,
    make_job,
    sendable,
)
from robust_transfer.study.executors import groups
from robust_transfer.study.ray_crew import cluster
from robust_transfer.study.recipe import Recipe, cells
from robust_transfer.study.store import Store
from robust_transfer.study.work import Workshop

MARKS = "FATAL_MARKS"
CREWS: list[dict[str, Any]] = [{"jobs": 2}, {"ray": "local"}]
SOURCE = {"bundled": {"use": "bundled"}}
BRIEF = {"threat": "linf:0.05", "attack": "fgsm", "examples": 10, "transfer_attack_examples": 0}
GRID = {"source": "bundled", "task": "few", "strategy": ["probe", "fatal"], "shots": 5, "evaluation": ["near", "far"]}


def fatal_recipe(folder: Path, deaths: int, **grid: Any) -> Path:
    """Three probes and two results that are fatal to so many processes, each evaluated twice."""
    recipe = {
        **TINY,
        "sources": SOURCE,
        "strategies": {
            "probe": {"strategy": "linear-probe", "each": {"l2": [1.0, 0.1, 0.01]}},
            "fatal": {"strategy": "fatal", "set": {"deaths": deaths}, "each": {"l2": [0.5, 0.05]}},
        },
        "evaluations": {"near": BRIEF, "far": {**BRIEF, "threat": "linf:0.2"}, "none": BRIEF | {"threat": "linf:0.01"}},
        "grid": [{**GRID, **grid}],
        "scales": {},
    }
    path = folder / f"fatal{deaths}.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


@pytest.fixture
def marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where deaths are counted; child processes find the strategy as an installed package, and this one for so long."""
    package, marks = tmp_path / "package", tmp_path / "marks"
    marks.mkdir()
    path = installed(Path(__file__).parents[1] / "fatal.py", "robust_transfer.strategies", package)
    monkeypatch.syspath_prepend(package)
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv(MARKS, str(marks))
    importlib.import_module("fatal")
    yield marks
    del sys.modules["fatal"], STRATEGIES._entries["fatal"]


def made_here(recipe: Recipe, out: Path) -> pd.DataFrame:
    """The table of one process, in which nobody dies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(MARKS)
        return facts(run_study(recipe, out, run=RUN))


def started(out: Path) -> dict[str, Any]:
    """The last start's line."""
    return dict(json.loads((out / "starts.jsonl").read_text().splitlines()[-1]))


@pytest.mark.slow
@pytest.mark.parametrize("how", CREWS, ids=str)
def test_two_processes_work_at_once(marks: Path, tmp_path: Path, how: dict[str, Any]) -> None:
    """Each result waits for another process to be at one, too."""
    changes = ["strategies.fatal.set={deaths: 0, meet: 2}", "grid.0.strategy=[fatal]"]
    found = run_study(load_recipe(fatal_recipe(tmp_path, 0), changes=changes), tmp_path / "out", run=RUN, **how)
    assert found["failure"].isna().all()
    pids = {who.split()[-1] for who in started(tmp_path / "out")["workers"]}
    assert pids == {path.stem for path in marks.glob("*.came")}
    assert len(pids) == 2
    assert str(os.getpid()) not in pids


@pytest.mark.slow
@pytest.mark.parametrize("how", CREWS, ids=str)
def test_a_worker_killed_once_changes_nothing(marks: Path, tmp_path: Path, how: dict[str, Any]) -> None:
    recipe = load_recipe(fatal_recipe(tmp_path, deaths=1))
    found = run_study(recipe, tmp_path / "out", run=RUN, **how)
    died = [pid for path in marks.glob("*.died") for pid in path.read_text().split()]
    assert len(set(died)) == 2
    assert facts(found).equals(made_here(recipe, tmp_path / "here"))
    start = started(tmp_path / "out")
    assert (start["deaths"], start["given_up"], start["cells"]) == (2, 0, 10)
    pids = {who.split()[-1] for who in start["workers"]}
    assert len(pids | set(died)) >= 3, "two that died, and who came after them"
    assert not (tmp_path / "out" / "given_up.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("how", CREWS, ids=str)
def test_what_kills_every_worker_is_given_up_and_told(marks: Path, tmp_path: Path, how: dict[str, Any]) -> None:
    path, out = fatal_recipe(tmp_path, deaths=99), tmp_path / "out"
    recipe = load_recipe(path, changes=["strategies.fatal.each.l2=[0.5]"])
    found = run_study(recipe, out, run=RUN, **how)
    assert len(found) == len(cells(recipe)) == 8
    lost = found["strategy"] == "fatal"
    assert (
        set(found["failure"][lost])
        == {"given up: 3 workers died of it, the last one by SIGKILL, perhaps out of memory"}
        or "ray" in how
    )
    assert found["failure"][lost].str.startswith("given up: 3 workers died of it").all()
    assert found["robust"][lost].isna().all()
    assert found["failure"][~lost].isna().all()
    assert len((marks / "0.5.died").read_text().split()) == MAX_DEATHS
    start = started(out)
    assert (start["deaths"], start["given_up"]) == (MAX_DEATHS, 2)
    report = (out / "report.md").read_text()
    assert "8 of 8 cells." in report
    assert "2 of them were given up: 3 workers died of it" in report
    assert report.count("| given up |") == 2
    # one that does not die of them makes them, and nothing is left of it
    assert made_here(recipe, out)["failure"].isna().all()
    assert json.loads((out / "given_up.json").read_text()) == {}
    assert made_here(recipe, out).equals(made_here(recipe, tmp_path / "here"))


@pytest.mark.slow
def test_two_nodes_of_a_ray_cluster_prove_what_they_see_and_share_the_work(marks: Path, tmp_path: Path) -> None:
    """Two that one machine plays; the first study's data is nowhere, the second's results need a worker on each."""
    nodes: Any = importlib.import_module("ray.cluster_utils").Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    try:
        nodes.add_node(num_cpus=1)
        changes = ["strategies.fatal.set={deaths: 0, meet: 2}", "grid.0.strategy=[fatal]"]
        recipe = load_recipe(fatal_recipe(tmp_path, 0), changes=changes)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("robust_transfer.study.executors.local_paths", lambda recipe: ["/no/photos"])
            with pytest.raises(ConfigError, match="has nothing at /no/photos"):
                run_study(recipe, tmp_path / "out", run=RUN, ray=nodes.address)
        assert not list(tmp_path.glob("out/results/*")), "no cell is begun before"
        found = run_study(recipe, tmp_path / "out", run=RUN, ray=nodes.address)
    finally:
        nodes.shutdown()
    assert found["failure"].isna().all()
    assert len(started(tmp_path / "out")["workers"]) == 2


# ---------------------------------------------------------------- crews that die as they are told, in this process


class Scripted(Worker):
    def __init__(self, crew: ScriptedCrew, number: int) -> None:
        self.crew, self.number, self.said = crew, number, deque[Answer]()
        if not crew.stillborn:
            self.said.append(Answer(f"here {number}"))

    def give(self, job: Job) -> None:
        self.crew.given.append(job)
        if not self.crew.deadly(job):
            make_job(self.crew.workshop, job)
            self.said.append(Answer(f"here {self.number}", job, 1.0))

    def hear(self) -> Answer:
        if not self.said:
            raise WorkerDiedError("by the script")
        return self.said.popleft()


class ScriptedCrew(Crew):
    """Dies of the jobs that have this strategy (or of this source, or after these evaluations)."""

    advice = "eat more"

    def __init__(self, workshop: Workshop, size: int = 2, deadly: Any = lambda job: False, stillborn: bool = False):
        self.workshop, self.size, self.deadly, self.stillborn = workshop, size, deadly, stillborn
        self.given, self.hired, self.dismissed = list[Job](), list[Worker](), list[Worker]()

    def hire(self) -> Worker:
        self.hired.append(Scripted(self, len(self.hired)))
        return self.hired[-1]

    def wait(self, workers: Sequence[Worker]) -> Sequence[Worker]:
        assert workers
        return workers[:1]

    def dismiss(self, worker: Worker) -> None:
        self.dismissed.append(worker)


@pytest.fixture
def workshop(tmp_path: Path, marks: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    monkeypatch.delenv(MARKS)
    return Workshop(
        load_recipe(fatal_recipe(tmp_path, 0, evaluation=["near", "far", "none"])), Store(tmp_path / "out"), RUN
    )


def test_an_evaluation_that_kills_leaves_the_others_of_its_result(workshop: Workshop) -> None:
    """The second of three cells that share a result: the first is made, and made once, and so is the third."""
    work = groups(workshop.recipe)
    victim = work[0][1]

    def deadly(job: Job) -> bool:
        for cell in job.cells:
            if cell == victim:
                return True
            workshop.make(cell)
        return False

    counted = list[int]()
    crew = ScriptedCrew(workshop, deadly=deadly)
    outcome = dispatch(workshop, work, crew, counted.append)
    every = [cell for group in work for cell in group]
    assert list(outcome.given_up) == [workshop.evaluation_key(victim)]
    assert [cell for cell in every if not workshop.done(cell)] == [victim]
    assert sum(counted) == len(every)
    assert (outcome.deaths, len(crew.hired)) == (MAX_DEATHS, MAX_DEATHS + 2)
    assert set(crew.dismissed) == set(crew.hired)
    assert sum(outcome.seconds.values()) == len(work), "four results, and what was left of the fifth"


def test_a_source_that_kills_is_given_up_with_its_cells(workshop: Workshop, tmp_path: Path) -> None:
    trained = {"pretrain": {"task": "few", "network": "wrn_16_1", "set": {"epochs": 1, "augment": False}}}
    raw = yaml.safe_load(fatal_recipe(tmp_path, 0).read_text())
    raw["sources"]["own"] = trained
    raw["grid"] = [{**raw["grid"][0], "source": ["own", "bundled"], "strategy": "probe", "evaluation": "near"}]
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(raw))
    workshop = Workshop(load_recipe(tmp_path / "two.yaml"), Store(tmp_path / "two"), RUN)
    counted, crew = list[int](), ScriptedCrew(workshop, deadly=lambda job: not job.cells)
    outcome = dispatch(workshop, groups(workshop.recipe), crew, counted.append)
    lost = {cell for cell in map(repr, cells(workshop.recipe)) if "source='own'" in cell}
    keys = {workshop.evaluation_key(cell) for cell in cells(workshop.recipe) if repr(cell) in lost}
    assert len(keys) == 3
    assert outcome.given_up.keys() == keys
    assert all(
        why.startswith("given up with its source 'own': 3 workers died of it") for why in outcome.given_up.values()
    )
    assert sum(counted) == 6
    assert crew.given[0] == Job("own"), "what others wait for comes first"


def many(tmp_path: Path, number: int) -> Workshop:
    """A study of so many results, each evaluated once."""
    raw = yaml.safe_load(fatal_recipe(tmp_path, 0, strategy="probe", evaluation="near").read_text())
    raw["strategies"]["probe"]["each"]["l2"] = [0.5**k for k in range(number)]
    (tmp_path / "many.yaml").write_text(yaml.safe_dump(raw))
    return Workshop(load_recipe(tmp_path / "many.yaml"), Store(tmp_path / "many"), RUN)


def test_where_every_cell_kills_its_worker_the_study_ends_soon(tmp_path: Path, marks: Path) -> None:
    workshop = many(tmp_path, 200)
    crew, work = ScriptedCrew(workshop, deadly=lambda job: True), groups(workshop.recipe)
    counted = list[int]()
    outcome = dispatch(workshop, work, crew, counted.append)
    assert len(outcome.given_up) == sum(counted) == 200
    tried = {repr(job.cells[0]) for job in crew.given}
    places = sorted(number for number, group in enumerate(work) if repr(group[0]) in tried)
    assert MAX_GIVEN_UP <= len(places) <= MAX_GIVEN_UP + crew.size, "and not 200"
    assert len(crew.given) <= MAX_DEATHS * (MAX_GIVEN_UP + crew.size)
    assert max(b - a for a, b in pairwise([0, *places, 200])) < 200 / 3, "they are from all over the study"
    untried = [why for why in outcome.given_up.values() if why.startswith("given up untried")]
    assert len(untried) == 200 - len(places)
    assert untried[0] == (
        "given up untried: 8 jobs in a row, from all parts of the remaining work, had cost 3 workers each, the last one died "
        "by the script"
    )
    assert set(crew.dismissed) == set(crew.hired)


def test_a_part_that_kills_does_not_end_what_can_be_made(
    tmp_path: Path, marks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first 20 of 60 results kill: these are given up, and all others are made."""
    workshop = many(tmp_path, 60)
    work, made = groups(workshop.recipe), set[str]()
    fatal = {repr(group[0]) for group in work[:20]}
    monkeypatch.setattr(workshop, "make", lambda cell: made.add(repr(cell)))
    outcome = dispatch(
        workshop, work, ScriptedCrew(workshop, deadly=lambda job: repr(job.cells[0]) in fatal), lambda count: None
    )
    assert len(outcome.given_up) == 20
    assert made == {repr(group[0]) for group in work} - fatal


def test_workers_that_die_as_they_start_end_the_study(workshop: Workshop) -> None:
    crew = ScriptedCrew(workshop, stillborn=True)
    with pytest.raises(ConfigError, match=r"3 workers in a row died as they started \(by the script\): eat more"):
        dispatch(workshop, groups(workshop.recipe), crew, lambda count: None)
    assert len(crew.hired) < 6
    assert set(crew.dismissed) == set(crew.hired)


@pytest.mark.parametrize("error", [ConnectionError, RuntimeError, Exception])
def test_a_cluster_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def late(**options: Any) -> None:
        raise error("the node timed out")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=late))
    with (
        pytest.raises(ConfigError, match=r"no Ray cluster answers at 'local' \(the node timed out\)"),
        cluster("local"),
    ):
        pass


def test_an_error_of_a_worker_ends_the_study_as_it_is(workshop: Workshop) -> None:
    class Odd(Exception):  # noqa: N818 (nobody could send it: it is of this function)
        pass

    sent = sendable(Odd("strange"))
    assert type(sent) is RuntimeError
    assert "Odd: strange" in str(sent)
    assert sendable(known := ConfigError("l2 is too odd")) is known


def test_the_command_says_how_many_were_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    why = ["given up: 3 workers died of it", "the loss exploded", None, "the loss exploded"]
    monkeypatch.setattr("robust_transfer.study.run_study", lambda *_, **__: pd.DataFrame({"failure": why}))
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(yaml.safe_dump({**TINY, "grid": [NEAR]}))
    result = CliRunner().invoke(app, ["study", str(recipe), "--out", str(tmp_path / "x")])
    assert isinstance(result.exception, DivergedError)
    assert str(result.exception).startswith(
        "in 2 of 4 cells training diverged; 1 of 4 cells were given up, as workers died of them: see "
    )
