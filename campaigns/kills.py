"""Commands killed by SIGKILL anywhere, gone on with, and compared with uninterrupted runs.

python campaigns/kills.py [--kills 50] [--seed 0] [--only transfer,evaluate] [--work FOLDER] [--record]

Half of the kills are at moments drawn from the command's CPU time, half at its file events: before one, after it, or with
the file torn. Every third of what goes on is killed once more.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import forked
from file_events import HOW, kill_at, ways
from record import Count, Record, cases_of
from small_commands import Command
from uninterrupted import Case, Whole, begin, beginning, each_uninterrupted, go_on, look

NAME, AT_EVENT = "kills", ("before ", "after ", "torn ")
TURN = 4  # kills of a command before it is the next one's turn
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
        return f"at {self.seconds:.3f} s" if self.seconds is not None else f"{self.how} {self.event}"


def main() -> None:
    asked = _arguments()
    work = Path(asked.work or tempfile.mkdtemp(prefix="kills-")).resolve()
    begin(work)
    cases: list[Case] = []
    waiting: deque[tuple[Command, Whole, Iterator[Kill]]] = deque()
    for command, whole in each_uninterrupted(asked.only, work):
        print(f"{command.name}: {whole.seconds:.1f} s of CPU time, {len(whole.events)} file events", flush=True)
        waiting.append((command, whole, drawn(whole, asked.kills, random.Random(f"{asked.seed} {command.name}"))))
    while waiting:  # a few kills of each in turn, so that an early end has seen all commands
        command, whole, kills = waiting.popleft()
        own = [tried(command, kill, whole, work, random.Random(f"{asked.seed} {kill}")) for kill in islice(kills, TURN)]
        print(f"{command.name}: {sum(case.injected for case in own)} kills", flush=True)
        cases += [case for case in own if case.injected]
        if asked.record:
            record([*_others(cases), *cases], asked.seed).write()
        if len(own) == TURN:
            waiting.append((command, whole, kills))
    sys.exit(1 if record(cases, asked.seed).failed else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="commands whose names begin so, separated by commas")
    parser.add_argument("--work", help="folder to work in [default: a temporary one]")
    parser.add_argument("--record", action="store_true", help="write the record; other commands in it stay")
    return parser.parse_args()


def _others(cases: Sequence[Case]) -> list[Case]:
    """Cases of other commands that the record has."""
    now = {case.command for case in cases}
    return [Case(**case) for case in cases_of(NAME) if case["command"] not in now]


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
    folder, case = beginning(command, work, "killed"), Case(command.name, str(kill))
    ended = injected(command.arguments, folder, kill)
    case.injected = int(ended.status == -signal.SIGKILL)
    look(case, folder, whole)
    if case.injected and draw.randrange(AGAIN) == 0:
        again = forked.run((*command.arguments, *command.goes_on[0]), folder, stop_after=draw.uniform(0, whole.seconds))
        case.injected += int(again.status == -signal.SIGKILL)
        look(case, folder, whole)
    go_on(case, command, folder, whole)
    if not case.survived:
        print(f"  {case}", flush=True)
    return case


def injected(arguments: tuple[str, ...], folder: Path, kill: Kill) -> forked.Ended:
    if kill.seconds is not None:
        return forked.run(arguments, folder, stop_after=kill.seconds)
    return forked.run(arguments, folder, prepare=kill_at(folder, kill.number, kill.how, kill.seed))


def record(cases: Sequence[Case], seed: int) -> Record:
    """Record of all cases."""
    counts = (
        Count("commands", len({case.command for case in cases})),
        Count("kills", sum(case.injected for case in cases)),
        Count("of which aimed at file events", sum(case.fault.startswith(AT_EVENT) for case in cases)),
        Count("lost: results that differ from the uninterrupted run's", sum(not c.same for c in cases), must_be=0),
        Count("half-written files under a result's name", sum(bool(case.damaged) for case in cases), must_be=0),
        Count("locks held", sum(bool(case.held) for case in cases), must_be=0),
        Count("temporary files left in run folders", sum(bool(case.leftovers) for case in cases), must_be=0),
        Count("hidden files left beside exports, pages and tables, never read", sum(len(c.strays) for c in cases)),
    )
    return Record(NAME, "Killed by SIGKILL", counts, seed=seed, cases=tuple(asdict(case) for case in cases))


if __name__ == "__main__":
    main()
