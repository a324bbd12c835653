"""A study with two processes of which one is killed, or the one that hired them.

python campaigns/faults_workers.py [--times 5] [--seed 0] [--record]

Workers are forked here, where ``study --jobs`` spawns them: the rest is the command's own. How many there are is asserted.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import forked
import small_commands
from record import Count, Record
from small_commands import Command
from uninterrupted import Case, Whole, begin, beginning, go_on, look, uninterrupted

JOBS = 2
GRACE = 30.0  # seconds that workers have to end after the one that hired them was killed


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=5, help="each of the two")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", help="folder to work in [default: a temporary one]")
    parser.add_argument("--record", action="store_true", help="write the record")
    asked = parser.parse_args()
    work = Path(asked.work or tempfile.mkdtemp(prefix="workers-")).resolve()
    begin(work)
    (study,) = small_commands.chosen(["study"])
    whole = uninterrupted(study, work)
    crowd = replace(study, name=f"study --jobs {JOBS}", arguments=(*study.arguments, "--jobs", str(JOBS)))
    cases = []
    for turn in range(asked.times):
        for fault in (killed_worker, killed_parent):
            case = fault(crowd, whole, work, random.Random(f"{asked.seed} {fault.__name__} {turn}"))
            print(case, flush=True)
            cases.append(case)
    found = record(cases, asked.seed)
    if asked.record:
        found.write()
    sys.exit(1 if found.failed else 0)


def killed_worker(command: Command, whole: Whole, work: Path, draw: random.Random) -> Case:
    """One of the workers is killed at work: another takes its place, and the study comes to its end."""
    folder, case = beginning(command, work, "crowd"), Case(command.name, "a worker")
    child = forked.Child(command.arguments, folder, by_fork)
    workers = hired(child)
    victim, after, ended = draw.choice(workers), draw.uniform(0, whole.seconds / 2), None
    while spent(victim) < after and (ended := child.poll()) is None:
        time.sleep(forked.STEP)
    if ended is None and lives(victim):
        os.kill(victim, signal.SIGKILL)
        case.injected = 1
    ended = ended or child.wait()
    case.clear = ended.status == 0 and len(workers) == JOBS
    case.told = "" if case.clear else f"{len(workers)} workers, status {ended.status}: {ended.told[-1500:]}"
    case.statuses = [ended.status]
    return go_on(case, command, folder, whole)


def killed_parent(command: Command, whole: Whole, work: Path, draw: random.Random) -> Case:
    """The process that hired the workers is killed: they end, too, and let go of their locks."""
    folder, case = beginning(command, work, "crowd"), Case(command.name, "the one that hired them")
    child = forked.Child(command.arguments, folder, by_fork)
    workers = hired(child)
    after = draw.uniform(0, whole.seconds / 2)
    while spent(workers[0]) < after:
        time.sleep(forked.STEP)
    os.kill(child.number, signal.SIGKILL)
    case.injected, case.statuses = 1, [child.wait().status]
    deadline = time.monotonic() + GRACE
    while (alive := [each for each in workers if lives(each)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    case.clear = not alive and len(workers) == JOBS
    case.told = f"{len(alive)} of {len(workers)} workers still at work" if not case.clear else ""
    for each in alive:
        os.kill(each, signal.SIGKILL)
    look(case, folder, whole)
    return go_on(case, command, folder, whole)


def by_fork() -> None:
    """What the command does to fork its workers."""
    forking = multiprocessing.get_context("fork")
    multiprocessing.get_context = lambda *_: forking  # type: ignore[assignment]


def hired(child: forked.Child) -> list[int]:
    """Workers of a command, once all are there."""
    path = Path(f"/proc/{child.number}/task/{child.number}/children")
    while True:
        found = [int(each) for each in path.read_text().split()]
        if len(found) >= JOBS:
            return found
        time.sleep(forked.STEP)


def spent(process: int) -> float:
    """CPU seconds of a process; endless once it is gone."""
    try:
        return time.clock_gettime((~process << 3) | 2)
    except OSError:
        return float("inf")


def lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def record(cases: Sequence[Case], seed: int) -> Record:
    """Record of all cases."""
    counts = (
        Count("processes of each study", JOBS),
        *(
            Count(f"killed: {what}", sum(case.fault == what for case in cases))
            for what in {case.fault: 0 for case in cases}
        ),
        Count("lost: results that differ from one process's", sum(not case.same for case in cases), must_be=0),
        Count(
            "workers that outlive the one that hired them, or are not replaced",
            sum(not c.clear for c in cases),
            must_be=0,
        ),
        Count("half-written files under a result's name", sum(bool(case.damaged) for case in cases), must_be=0),
        Count("locks held, temporary files left", sum(bool(c.held or c.leftovers) for c in cases), must_be=0),
    )
    return Record(
        "workers", "Workers of a study killed", counts, seed=seed, cases=tuple(asdict(case) for case in cases)
    )


if __name__ == "__main__":
    main()
