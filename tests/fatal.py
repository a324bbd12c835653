"""A strategy that kills its process, as often as it is told, and is a linear probe then. Registered when it is imported."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.config import config
from robust_transfer.data import Task
from robust_transfer.production import Produced
from robust_transfer.run import Run
from robust_transfer.strategies import STRATEGIES, LinearProbe

MARKS = "FATAL_MARKS"  # the variable that names the folder where deaths are counted; where there is none nobody dies


@STRATEGIES.register("fatal", summary="kills its process", paper="none")
@config
class Fatal(LinearProbe):
    """A linear probe; but the first ``deaths`` processes that try are killed, and others wait until ``meet`` are at it."""

    deaths: int = 1
    meet: int = 0

    def adapt(self, source: Checkpoint, task: Task, run: Run) -> Produced:
        die(f"{self.l2}", self.deaths)
        meet(self.meet)
        return super().adapt(source, task, run)


def meet(processes: int) -> None:
    """Wait until so many processes have come here."""
    if MARKS not in os.environ:
        return
    marks, deadline = Path(os.environ[MARKS]), time.monotonic() + 200
    (marks / f"{os.getpid()}.came").touch()
    while len(list(marks.glob("*.came"))) < processes:
        if time.monotonic() > deadline:
            raise TimeoutError("the others did not come")
        time.sleep(0.02)


def die(what: str, deaths: int) -> None:
    """Kill this process, if fewer have died of ``what``."""
    if MARKS not in os.environ:
        return
    died = Path(os.environ[MARKS]) / f"{what}.died"
    before = died.read_text().split() if died.exists() else []
    if len(before) < deaths:
        died.write_text(" ".join([*before, str(os.getpid())]))
        os.kill(os.getpid(), signal.SIGKILL)
