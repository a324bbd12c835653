"""Hostile case: files, the command that is given them, and what may come of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # their generators of broken files are used here, too

CANARY = "canary"  # begins the names of files that only executed code makes
REFUSED, READ = "refused", "read"  # what is no fault; everything else is
FAULTS = (
    "traceback",
    "hang",
    "memory",
    "crash",
    "code executed",
    "file outside",
    "address outside",
    "shown raw",
    "unclear",
    "wrong",
)
Words = Sequence[object]  # of a command line


@dataclass(frozen=True)
class Case:
    """``make(folder)`` writes the files in an empty folder, where the command then runs, and returns the command's words.

    ``must``: the one outcome that is right; None where both are. ``run``: a call in place of the command line.
    ``check(folder, shown)``: a complaint on what was written or shown, or None. ``seconds``: the limit, if not the usual one.
    """

    family: str
    name: str
    make: Callable[[Path], Words]
    must: str | None = None
    run: Callable[[], None] | None = None
    check: Callable[[Path, str], str | None] | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of a case: :data:`REFUSED`, :data:`READ` or one of :data:`FAULTS`, with what was said of it.

    ``megabytes``: by which the most memory that was held grew; ``seconds``: that it took.
    """

    case: Case
    kind: str
    said: str
    megabytes: float
    seconds: float

    @property
    def fault(self) -> bool:
        return self.kind not in (REFUSED, READ)
