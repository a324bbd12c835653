"""Overhead of a running study: CPU time beside cells of known work, on processes and on Ray, with one process killed.

A cell spends a known CPU time in its strategy. All other CPU time of the study's processes counts as bookkeeping: handing
cells out, locks, files, what a small transfer and evaluation take beside the known work (network built, weights written
and read, one attack of one step on ten images), the table, and with Ray its own processes. Counted apart is what does
not grow with the cells: CPU time until each process has begun its first cell, and what was done in vain when one was killed.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import header
from conditions import cpus
from load import PROC, Load, Moment, moment, ours, told
from plugin import installed
from small_study import RUN, known, source, written
from table import Row, figure
from tree import TICK, Tree

from robust_transfer.evaluation import evaluate
from robust_transfer.study import run_study
from robust_transfer.study.executors import groups
from robust_transfer.study.recipe import Recipe, cells
from robust_transfer.study.report import STARTS
from robust_transfer.study.store import Store
from robust_transfer.study.work import Workshop

LONG = 30.0  # seconds of a short cell of a real study: recipes at the scale laptop take half a minute to minutes a cell
BY_HAND = "transfer and evaluate by hand"


@dataclass(frozen=True)
class Begun:
    """Work on one cell: in which process, when, and that process's CPU time at its beginning; None: it did not end."""

    pid: int
    begun: float
    cpu: float
    ended: float | None = None


@dataclass(frozen=True)
class Cost:
    """CPU seconds of a study: ``whole``; of them ``started`` and ``lost``, which do not grow with its ``cells``; wall-clock."""

    cells: int
    work: float
    whole: float
    started: float
    lost: float
    wall: float

    @property
    def beside(self) -> float:
        """CPU seconds beside the known work of each cell."""
        return (self.whole - self.started - self.lost - self.work) / self.cells

    def share(self, seconds: float) -> float:
        """Share of that in cells that take so many ``seconds`` otherwise."""
        return self.beside / (self.beside + seconds)


def cost_of(spent: Sequence[Begun], seconds: float, seen: Tree, killed: tuple[int, float] | None, wall: float) -> Cost:
    """Cost of a study from what its processes noted; ``killed``: a process, and its CPU time then."""
    first = {each.pid: each.cpu for each in reversed(spent)}
    beginning, end = seen.at(min(each.begun for each in spent)), seen.at(time.time())
    others = sum(cpu for pid, cpu in beginning.items() if pid not in first or pid == os.getpid())
    started = others + sum(cpu for pid, cpu in first.items() if pid != os.getpid())
    done = [each for each in spent if each.ended is not None]
    vain = [each.cpu for each in spent if each.ended is None and killed is not None and each.pid == killed[0]]
    lost = sum(killed[1] - cpu for cpu in vain) if killed is not None else 0.0
    whole = sum((end | ({killed[0]: killed[1]} if killed is not None else {})).values())
    return Cost(len(done), seconds * len(done), whole, started, lost, wall)


def noted(notes: Path) -> list[Begun]:
    """Notes of all processes, by time."""
    found = []
    for path in notes.glob("*.jsonl"):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        ends = [line["ended"] for line in lines if "ended" in line]
        begun = [line for line in lines if "begun" in line]
        ends += [None] * (len(begun) - len(ends))
        found += [
            Begun(int(path.stem), line["begun"], line["cpu"], ended) for line, ended in zip(begun, ends, strict=True)
        ]
    return sorted(found, key=lambda each: each.begun)


class Killer(threading.Thread):
    """Kills a process that is at a cell for so long, once so many cells are done; ``killed``: it, and its CPU time then."""

    def __init__(self, notes: Path, after: int, age: float) -> None:
        super().__init__(daemon=True)
        self.notes, self.after, self.age, self.over = notes, after, age, threading.Event()
        self.killed: tuple[int, float] | None = None

    def run(self) -> None:
        while not self.over.wait(0.02):
            spent = noted(self.notes)
            if sum(each.ended is not None for each in spent) >= self.after:
                for each in reversed(spent):
                    if each.ended is None and time.time() - each.begun > self.age:
                        spent_cpu = TICK * ours(PROC, each.pid)[each.pid]
                        os.kill(each.pid, signal.SIGKILL)
                        self.killed = each.pid, spent_cpu
                        return


def strategy() -> Any:
    """Module of the strategy, which this process knows from now on."""
    return importlib.import_module("known_work")


@contextmanager
def noting(notes: Path, folder: Path) -> Iterator[None]:
    """Processes that are started inside the block know the strategy, and note what they do in ``notes``."""
    notes.mkdir()
    path = installed(Path(__file__).with_name("known_work.py"), "robust_transfer.strategies", folder / "package")
    where = strategy().NOTES
    given = {name: os.environ.get(name) for name in (where, "PYTHONPATH")}
    os.environ.update({where: str(notes), "PYTHONPATH": path})
    sys.path.insert(0, str(folder / "package"))  # which processes that are spawned take over
    try:
        yield
    finally:
        sys.path.remove(str(folder / "package"))
        for name, value in given.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def by_hand(recipe: Recipe, out: Path) -> None:
    """Work of a study's cells without the study: call the strategy, evaluate its result."""
    workshop = Workshop(recipe, Store(out), RUN)
    for number, cell in enumerate(cells(recipe)):
        task, start, how = (
            workshop.task(cell.task, cell.shots, cell.seed),
            workshop.source(cell.source),
            recipe.evaluations[cell.evaluation],
        )
        result = workshop.strategy(cell)(start, task, run=workshop._into(out / f"{number}", cell.seed))
        evaluate(
            result, task.test, threat=how.threat, attack=how.attack, examples=how.examples, source=start,
            transfer_attack_examples=0, red_flag_examples=0, run=workshop._into(out / f"{number}-evaluated", 0),
        )  # fmt: skip


def running(count: int, seconds: float, ways: Sequence[str], folder: Path) -> list[Row]:
    """Milliseconds of CPU time beside the work of each of ``count`` cells of so many ``seconds``, each way once."""
    many = cpus()
    strategy()
    header("cells whose work is known", cells=count, seconds=seconds, processes=many)
    recipe, rows = written(known(count, seconds, source(folder)), folder / "known.yaml"), list[Row]()
    for way in ways:
        begun = moment()
        cost, said = _made(way, recipe, seconds, folder / f"{ways.index(way)}", many)
        load = _others(begun, moment(), cost.whole)
        share = f"{100 * cost.share(LONG):.2f} % of cells of {LONG:.0f} s, {100 * cost.share(seconds):.1f} % of these"
        cpu = f"{figure(cost.wall)} s in all, {figure(cost.whole)} s of CPU time, {figure(cost.started)} of it start-up"
        note = f"{share}; {cpu}; {said}"
        rows.append(
            Row(
                f"beside the work of {count:,} cells of {seconds:g} s",
                way,
                (1e3 * cost.beside,),
                "ms a cell",
                load,
                note,
            )
        )
        print(f"  {way}: {figure(1e3 * cost.beside)} ms a cell, {note} (taken by others: {told(load)})", flush=True)
    return rows


def _others(begun: Moment | None, ended: Moment | None, own: float) -> Load | None:
    """Load of other processes, given our ``own`` seconds: Ray's finished processes have no parent that counts them."""
    if begun is None or ended is None:
        return None
    return Load(round(ended.busy - begun.busy - own / TICK), ended.every - begun.every)


def _made(way: str, recipe: Recipe, seconds: float, folder: Path, many: int) -> tuple[Cost, str]:
    """Cost of a study that is made one way, in a new folder; and what happened, which is checked."""
    folder.mkdir()
    notes, out, count = folder / "notes", folder / "study", len(cells(recipe))
    crew: dict[str, Any] = (
        {"jobs": many} if way.startswith("--jobs") else {"ray": "local"} if way.startswith("--ray") else {}
    )
    killer = Killer(notes, after=count // 3, age=seconds / 2) if crew else None
    begun = time.time()
    with noting(notes, folder), Tree() as seen:
        if killer is not None:
            killer.start()
        if way == BY_HAND:
            by_hand(recipe, out)
        else:
            table = run_study(recipe, out, run=RUN, **crew)
            assert len(table) == count == len(groups(recipe)), "a row a cell"
            assert table["failure"].isna().all(), "every cell has its figures"
        if killer is not None:
            killer.over.set()
            killer.join()
    wall, spent = time.time() - begun, noted(notes)
    cost = cost_of(spent, seconds, seen, killer.killed if killer is not None else None, wall)
    assert cost.cells == count, "each cell was worked at to its end, and none twice"
    if killer is None:
        assert {each.pid for each in spent} == {os.getpid()}
        return cost, "this process"
    pids, start = {each.pid for each in spent}, json.loads((out / STARTS).read_text(encoding="utf-8").splitlines()[-1])
    assert killer.killed is not None, "one was killed"
    assert os.getpid() not in pids
    assert len(pids) == many + 1, "the processes, and the one that came for the killed one"
    assert (start["deaths"], start["given_up"]) == (1, 0)
    assert {int(who.split()[-1]) for who in start["workers"]} == pids, "each of them made cells"
    return (
        cost,
        f"{len(pids)} processes worked, one was killed at its work ({figure(cost.lost)} s in vain), every cell is there",
    )


WAYS = (BY_HAND, "one process", "--jobs", "--ray local")
