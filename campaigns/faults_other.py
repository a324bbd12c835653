"""Other faults than SIGKILL: disks that are full, read-only, failing or slow, signals, a clock that jumps, a second writer.

python campaigns/faults_other.py [--times 3] [--seed 0] [--only transfer,evaluate] [--faults full-disk,sigterm] [--record]

Each ends in the same result after going on, or in one clear line and an exit status of the project's; never in a traceback.
"""

from __future__ import annotations

import argparse
import errno
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import forked
from injected import Prepare, failing_at, jumping_clock, slow_disk, stopped_at
from record import Count, Record, cases_of
from same_results import names
from small_commands import Command
from small_disk import small_disk
from uninterrupted import Case, Whole, begin, beginning, each_uninterrupted, go_on, look

NAME = "faults"
SLEEP = 0.01  # seconds that each file event of a slow disk takes longer
WAITS = 20.0  # seconds that a second writer may wait for the first
Fault = Callable[[Command, Whole, Path, random.Random], Case]


def failed(case: Case, ended: forked.Ended, *allowed: int) -> None:
    """Note whether a command ended clearly: by an ``allowed`` status and, where it failed, with one line."""
    lines = [line for line in ended.told.splitlines() if line.startswith("robust-transfer: ")]
    case.statuses.append(ended.status)
    case.injected += 1
    if ended.traceback or ended.status not in (0, *allowed) or (ended.status and len(lines) != 1):
        case.clear = False
        case.told += f"status {ended.status}: {ended.told[-1500:]}"


def full_disk(command: Command, whole: Whole, work: Path, draw: random.Random) -> Case:
    """Disk that is full when some of the results are written, and has room again later."""
    case, folder = Case(command.name, "full disk"), work / "disk"
    needed = sum(path.stat().st_size for path in (work / "whole").rglob("*") if path.is_file())
    with small_disk(folder, 4096 * draw.randrange(1, max(2, needed // 4096))) as disk:
        if command.begins is not None:
            disk.change("size=100m")
            disk_use(command, work, folder)
            disk.change(f"size={used(folder) + 4096}")
        failed(case, forked.run(command.arguments, folder), 2)
        look(case, folder, whole)
        disk.change("size=100m")
        return go_on(case, command, folder, whole)


def disk_use(command: Command, work: Path, folder: Path) -> None:
    """Copy what a command begins with onto the disk."""
    made = beginning(command, work, "made")
    for name in names(made):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((made / name).read_bytes())


def used(folder: Path) -> int:
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def read_only(command: Command, whole: Whole, work: Path, draw: random.Random) -> Case:
    """Folder in which nothing may be written, after an interruption; root may write to any other."""
    case, folder = Case(command.name, "read-only folder"), work / "disk"
    with small_disk(folder, 100 * 2**20) as disk:
        disk_use(command, work, folder)
        forked.run(command.arguments, folder, stop_after=draw.uniform(0, whole.seconds))
        disk.change("ro")
        failed(case, forked.run((*command.arguments, *command.goes_on[0]), folder), 2)
        disk.change("rw")
        return go_on(case, command, folder, whole)


def failing(number: int) -> Fault:
    """Disk of which each change fails from some moment on."""

    def fault(command: Command, whole: Whole, work: Path, draw: random.Random) -> Case:
        case, folder = Case(command.name, errno.errorcode[number]), beginning(command, work, "faulty")
        at = draw.randrange(len(whole.events))
        failed(case, forked.run(command.arguments, folder, prepare=failing_at(folder, at, number)), 2)
        case.fault += f" from {whole.events[at].label} on"
        look(case, folder, whole)
        return go_on(case, command, folder, whole)

    return fault


def signalled(number: signal.Signals) -> Fault:
    """Signal at some moment of the command's life."""

    def fault(command: Command, whole: Whole, work: Path, draw: random.Random) -> Case:
        at = draw.uniform(0.02, whole.seconds)  # before that the child is not yet the command
        case, folder = Case(command.name, f"{number.name} at {at:.3f} s"), beginning(command, work, "faulty")
        failed(case, forked.run(command.arguments, folder, stop_after=at, by=number), 128 + number)
        look(case, folder, whole)
        return go_on(case, command, folder, whole)

    return fault


def changed(title: str, prepare: Callable[[Path, random.Random], Prepare]) -> Fault:
    """Condition under which the command has to come to its end as ever."""

    def fault(command: Command, whole: Whole, work: Path, draw: random.Random) -> Case:
        case, folder = Case(command.name, title), beginning(command, work, "faulty")
        failed(case, forked.run(command.arguments, folder, prepare=prepare(folder, draw)))
        look(case, folder, whole)
        return go_on(case, command, folder, whole)

    return fault


def second_writer(command: Command, whole: Whole, work: Path, draw: random.Random) -> Case:
    """Same command in the same folder while the first one is stopped at a file event: refused, or waiting, or harmless."""
    at, folder = draw.randrange(len(whole.events)), beginning(command, work, "faulty")
    case = Case(command.name, f"second writer at {whole.events[at].label}")
    first = forked.Child(command.arguments, folder, stopped_at(folder, at))
    if first.stopped():
        second, ended = forked.Child((*command.arguments, *command.goes_on[0]), folder), None
        while ended is None and second.used() < 2 * whole.seconds and second.seconds() < WAITS:
            ended = second.poll()
            time.sleep(forked.STEP)
        os.kill(first.number, signal.SIGCONT)
        failed(case, ended or second.wait(), 2)
    failed(case, first.wait())
    look(case, folder, whole)
    return go_on(case, command, folder, whole)


FAULTS: dict[str, Fault] = {
    "full-disk": full_disk,
    "read-only": read_only,
    "enospc": failing(errno.ENOSPC),
    "eio": failing(errno.EIO),
    "sigterm": signalled(signal.SIGTERM),
    "sigint": signalled(signal.SIGINT),
    "sighup": signalled(signal.SIGHUP),
    "clock": changed("clock that jumps", lambda _, draw: jumping_clock(draw.randrange(2**31))),
    "slow-disk": changed("slow disk", lambda folder, _: slow_disk(folder, SLEEP)),
    "second-writer": second_writer,
}


def main() -> None:
    asked = _arguments()
    work = Path(asked.work or tempfile.mkdtemp(prefix="faults-")).resolve()
    begin(work)
    faults = {name: FAULTS[name] for name in asked.faults.split(",") if name} or FAULTS
    cases: list[Case] = []
    for command, whole in each_uninterrupted(asked.only, work):
        for name, fault in faults.items():
            for turn in range(asked.times):
                case = fault(command, whole, work, random.Random(f"{asked.seed} {command.name} {name} {turn}"))
                case.fault = f"{name}: {case.fault}"
                cases.append(case)
                if not case.survived:
                    print(f"  {case}", flush=True)
        own = [case for case in cases if case.command == command.name]
        print(f"{command.name}: {len(own)} faults, {sum(not case.survived for case in own)} lost", flush=True)
        if asked.record:
            record([*_others(cases), *cases], asked.seed).write()
    sys.exit(1 if record(cases, asked.seed).failed else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=3, help="each fault, of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="commands whose names begin so, separated by commas")
    parser.add_argument("--faults", default="", help=f"of {', '.join(FAULTS)}")
    parser.add_argument("--work", help="folder to work in [default: a temporary one]")
    parser.add_argument("--record", action="store_true", help="write the record; what else is in it stays")
    return parser.parse_args()


def _others(cases: Sequence[Case]) -> list[Case]:
    """Cases that the record has of other commands and faults."""
    now = {_of(case) for case in cases}
    return [case for case in (Case(**stored) for stored in cases_of(NAME)) if _of(case) not in now]


def _of(case: Case) -> tuple[str, str]:
    return case.command, case.fault.partition(":")[0]


def record(cases: Sequence[Case], seed: int) -> Record:
    """Record of all cases: for each fault how often it was injected, and what was lost."""
    of = {name: [case for case in cases if case.fault.startswith(f"{name}:")] for name in FAULTS}
    counts = (
        Count("commands", len({case.command for case in cases})),
        *(Count(name, len(found)) for name, found in of.items() if found),
        Count("lost: results that differ from the uninterrupted run's", sum(not c.same for c in cases), must_be=0),
        Count("tracebacks, or no clear line", sum(not case.clear for case in cases), must_be=0),
        Count("half-written files under a result's name", sum(bool(case.damaged) for case in cases), must_be=0),
        Count("locks held, temporary files left", sum(bool(c.held or c.leftovers) for c in cases), must_be=0),
    )
    return Record(NAME, "Other faults", counts, seed=seed, cases=tuple(asdict(case) for case in cases))


if __name__ == "__main__":
    main()
