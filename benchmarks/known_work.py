"""Strategy of known work: a given CPU time, the source unchanged. Registered when imported."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.config import config
from robust_transfer.cost import Cost
from robust_transfer.data import Task
from robust_transfer.production import Produced
from robust_transfer.run import Run
from robust_transfer.strategies import STRATEGIES, Strategy

NOTES = "KNOWN_WORK_NOTES"  # the variable that names the folder where each process notes what it does


@STRATEGIES.register("known-work", summary="takes a known time", paper="none")
@config
class KnownWork(Strategy):
    """Takes ``seconds`` of its thread's CPU time. ``number`` tells cells apart that are the same otherwise."""

    seconds: float = 0.1
    number: int = 0

    def adapt(self, source: Checkpoint, task: Task, run: Run) -> Produced:
        note(number=self.number, begun=time.time(), cpu=time.process_time())
        until = time.thread_time() + self.seconds
        while time.thread_time() < until:
            pass
        note(number=self.number, ended=time.time(), cpu=time.process_time())
        return Produced(source.classifier.copy(), criterion="time", cost=Cost(passes=1.0))


def note(**facts: Any) -> None:
    """Add a line to this process's notes; written at once, as it may be killed."""
    with (Path(os.environ[NOTES]) / f"{os.getpid()}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(facts) + "\n")
