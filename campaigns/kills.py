"""Commands killed by SIGKILL anywhere, gone on with, and compared with uninterrupted runs.

python campaigns/kills.py [--kills 50] [--seed 0] [--only transfer,evaluate] [--work FOLDER] [--record]

Half of the kills are at moments drawn from the command's CPU time, half at its file events: before one, after it, or with the file
torn. Every third of what goes on is killed once more.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", PYTHONDONTWRITEBYTECODE="1", TORCH_HOME=os.devnull)

import forked
import small_commands
from file_events import HOW, Event, kill_at, note_events, read_events, ways
from record import Count, Record
from same_results import contents, damaged, differences, held, leftovers
from small_commands import BEGINNINGS, OUT, Command

AGAIN = 3  # of so many that go on, one is killed once more


@dataclass(frozen=True)
class Kill:
    """Moment of a kill: CPU seconds, or a file event and how."""

    seconds: float | None = None
    number: int = 0
    event: str = ""
    how: HOW = "before"
    seed: int = 0

    def __str__(self) -> str:
        return f"after {self.seconds:.3f} s" if self.seconds is not None else f"{self.how} {self.event}"


@dataclass
class Case:
    """One kill and what came of it."""

    command: str
    kill: str
    injected: int = 0
    same: bool = False
    damaged: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    told: str = ""

    @property
    def survived(self) -> bool:
        return self.same and not (self.damaged or self.leftovers or self.held)


@dataclass(frozen=True)
class Whole:
    """Uninterrupted run: what it made, its CPU seconds, its file events."""

    made: dict[str, Any]
    seconds: float
    events: list[Event]


def main() -> None:
    asked = _arguments()
    work = Path(asked.work or tempfile.mkdtemp(prefix="kills-")).resolve()
    begin(work)
    cases: list[Case] = []
    for command in small_commands.chosen([name for name in asked.only.split(",") if name]):
        whole = uninterrupted(command, work)
        print(f"{command.name}: {whole.seconds:.1f} s of CPU time, {len(whole.events)} file events", flush=True)
        for kill in drawn(whole, asked.kills, random.Random(f"{asked.seed} {command.name}")):
            case = tried(command, kill, whole, work, random.Random(f"{asked.seed} {kill}"))
            if case.injected:
                cases.append(case)
            if not case.survived:
                print(f"  {case}", flush=True)
        own = [case for case in cases if case.command == command.name]
        print(f"  {sum(case.injected for case in own)} kills, {sum(not c.survived for c in own)} lost", flush=True)
        if asked.record:
            record(cases, asked.seed).write()
    sys.exit(1 if record(cases, asked.seed).failed else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="commands whose names begin so, separated by commas")
    parser.add_argument("--work", help="folder to work in [default: a temporary one]")
    parser.add_argument("--record", action="store_true", help="write docs/survival/kills.json")
    return parser.parse_args()


def begin(work: Path) -> None:
    """Make what the commands begin with, in ``work``, unless it is there."""
    small_commands.prepare(work)
    for name, arguments in BEGINNINGS.items():
        if not (work / name).exists():
            ended = forked.loaded_by(arguments, work / "begin")
            if ended.status:
                sys.exit(f"{name}: {ended.told}")
            shutil.move(work / "begin" / OUT, work / name)
            shutil.rmtree(work / "begin")


def uninterrupted(command: Command, work: Path) -> Whole:
    """Run a command twice: to load what it needs, and for its events. Both have to make the same."""
    folder = fresh(work, "whole")
    ended = forked.loaded_by(command.arguments, folder)
    if ended.status:
        sys.exit(f"{command.name}: {ended.told}")
    first, log = contents(folder), work / "events.txt"
    folder = fresh(work, "whole")
    ended = forked.run(command.arguments, folder, prepare=note_events(folder, log))
    made = contents(folder)
    if found := differences(first, made):
        sys.exit(f"{command.name}: two uninterrupted runs differ in {', '.join(found)}")
    return Whole(made, ended.seconds, read_events(log))


def fresh(work: Path, name: str) -> Path:
    folder = work / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def drawn(whole: Whole, count: int, draw: random.Random) -> Iterator[Kill]:
    """``count`` kills: moments and file events in turn; of events each kind once, before one comes again."""
    of_kind = defaultdict[tuple[str, HOW], list[int]](list)
    for number, event in enumerate(whole.events):
        for how in ways(event):
            of_kind[event.label, how].append(number)
    kinds = draw.sample(sorted(of_kind), len(of_kind))
    for k in range(count):
        if k % 2 or not kinds:
            yield Kill(seconds=draw.uniform(0, whole.seconds))
        else:
            label, how = kinds[k // 2 % len(kinds)]
            yield Kill(None, draw.choice(of_kind[label, how]), label, how, draw.randrange(2**31))


def tried(command: Command, kill: Kill, whole: Whole, work: Path, draw: random.Random) -> Case:
    """Kill a command, go on with it as a user does, and look at what is there."""
    folder, case = fresh(work, "killed"), Case(command.name, str(kill))
    ended = injected(command.arguments, folder, kill)
    case.injected = int(ended.status == -signal.SIGKILL)
    case.damaged = tuple(damaged(folder, whole.made))
    if case.injected and draw.randrange(AGAIN) == 0:
        again = forked.run((*command.arguments, *command.goes_on[0]), folder, stop_after=draw.uniform(0, whole.seconds))
        case.injected += int(again.status == -signal.SIGKILL)
        case.damaged += tuple(damaged(folder, whole.made))
    for options in command.goes_on:
        ended = forked.run((*command.arguments, *options), folder)
        if ended.status == 0 or ended.traceback:
            break
    case.told = "" if ended.status == 0 else ended.told[-2000:]
    case.same = ended.status == 0 and not (found := differences(contents(folder), whole.made))
    case.told = case.told or ("" if case.same else f"differ: {', '.join(found)}")
    case.leftovers, case.held = tuple(leftovers(folder)), tuple(held(folder))
    return case


def injected(arguments: tuple[str, ...], folder: Path, kill: Kill) -> forked.Ended:
    if kill.seconds is not None:
        return forked.run(arguments, folder, stop_after=kill.seconds)
    return forked.run(arguments, folder, prepare=kill_at(folder, kill.number, kill.how, kill.seed))


def record(cases: list[Case], seed: int) -> Record:
    """Record of all cases."""
    ways_of = sum(not case.kill.startswith("after 0") for case in cases)
    counts = (
        Count("commands", len({case.command for case in cases})),
        Count("kills", sum(case.injected for case in cases)),
        Count("of which aimed at file events", ways_of),
        Count("results that differ from the uninterrupted run's", sum(not case.same for case in cases), must_be=0),
        Count("half-written files under a result's name", sum(bool(case.damaged) for case in cases), must_be=0),
        Count("locks held, files left behind", sum(bool(c.held or c.leftovers) for c in cases), must_be=0),
    )
    return Record("kills", "Killed by SIGKILL", counts, seed=seed, cases=tuple(asdict(case) for case in cases))


if __name__ == "__main__":
    main()
