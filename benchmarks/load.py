"""CPU time that other processes took between two moments, from Linux's own counts.

Of the CPUs that this process may use; in a container others may be those of the whole machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
DISTURBED = 0.1  # with so large a share of the CPUs' time taken by others, a timing is not to be trusted
SHORTEST = 50  # ticks, mostly of 10 ms, are counted one by one: of fewer than so many no share can be told


@dataclass(frozen=True)
class Moment:
    """Clock ticks since the machine started: those of the CPUs that we may use, the busy ones, those of our own tree."""

    every: int
    busy: int
    own: int


@dataclass(frozen=True)
class Load:
    """Ticks that others took, of ``every`` one that there was; a virtual machine's own neighbours (steal) are others, too."""

    others: int = 0
    every: int = 0

    def __add__(self, more: Load) -> Load:
        return Load(self.others + more.others, self.every + more.every)

    @property
    def share(self) -> float:
        """Share of the CPUs' time, in [0, 1]."""
        return min(max(self.others / self.every, 0.0), 1.0) if self.every else 0.0

    @property
    def disturbed(self) -> bool:
        return self.every >= SHORTEST and self.share > DISTURBED

    def __str__(self) -> str:
        if self.every < SHORTEST:
            return "too short to tell"
        return f"{100 * self.share:.0f} %" + (": disturbed by neighbours" if self.disturbed else "")


def moment(proc: Path = PROC, pid: int | None = None, cpus: set[int] | None = None) -> Moment | None:
    """Counts of now; None on a machine that keeps none. ``pid``: the root of our own tree. ``cpus``: those that we may use."""
    try:
        names = {f"cpu{n}" for n in (os.sched_getaffinity(0) if cpus is None else cpus)}
        lines = (line.split() for line in (proc / "stat").read_text().splitlines())
        counts = [[int(field) for field in line[1:9]] for line in lines if line and line[0] in names]
        # user, nice, system, idle, iowait, irq, softirq, steal; what guests take is in user already
        every, idle = sum(map(sum, counts)), sum(line[3] + line[4] for line in counts)
        return Moment(every, every - idle, _own(proc, os.getpid() if pid is None else pid))
    except (OSError, AttributeError, IndexError, ValueError):
        return None


def taken(begun: Moment | None, ended: Moment | None) -> Load | None:
    """Load of other processes between two moments; None if unknown."""
    if begun is None or ended is None:
        return None
    return Load(ended.busy - begun.busy - (ended.own - begun.own), ended.every - begun.every)


def pooled(loads: list[Load | None]) -> Load | None:
    """Load over several spans; None where one of them is not known."""
    known = [load for load in loads if load is not None]
    return sum(known, Load()) if len(known) == len(loads) else None


def told(load: Load | None) -> str:
    """Load as a sentence."""
    return "unknown" if load is None else str(load)


def ours(proc: Path, root: int) -> dict[int, int]:
    """Ticks of each process of a tree, without those of its children."""
    return {pid: own for pid, (own, _) in _tree(proc, root).items()}


def _own(proc: Path, root: int) -> int:
    """Ticks of a process, of those that it has started and of those that these have; finished ones are in their parents'."""
    return sum(own + finished for own, finished in _tree(proc, root).values())


def _tree(proc: Path, root: int) -> dict[int, tuple[int, int]]:
    """Ticks of a process and of all below it, each with those of the children that it has waited for."""
    parents, ticks = dict[int, int](), dict[int, tuple[int, int]]()
    for pid, parent, own, finished in _processes(proc):
        parents[pid], ticks[pid] = parent, (own, finished)
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return {pid: ticks[pid] for pid in found}


def _processes(proc: Path) -> Iterator[tuple[int, int, int, int]]:
    """Process, its parent, its ticks, and those of the children that it has waited for."""
    for path in proc.glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            fields = path.read_text().rpartition(")")[2].split()  # a name may hold spaces and brackets
            yield int(path.parent.name), int(fields[1]), sum(map(int, fields[11:13])), sum(map(int, fields[13:15]))
