"""CPU time of a process and all its descendants, sampled repeatedly, so that children nobody waits for count, too."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from types import TracebackType

from load import PROC, ours

EVERY = 0.5  # seconds between two looks; what a process does between the last one and its end is missed
TICK = 1 / os.sysconf("SC_CLK_TCK")


class Tree:
    """Seconds of CPU time of each process of this one's tree, as last seen, from the block's beginning to its end."""

    def __init__(self, proc: Path = PROC, root: int | None = None) -> None:
        self.proc, self.root = proc, os.getpid() if root is None else root
        self.looks: list[tuple[float, dict[int, float]]] = []
        self._over, self._thread = threading.Event(), threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Tree:
        self.look()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self.look()

    def look(self) -> None:
        """Add what there is now to what was seen before."""
        before = dict(self.looks[-1][1]) if self.looks else {}
        now = {pid: TICK * ticks for pid, ticks in ours(self.proc, self.root).items()}
        self.looks.append((time.time(), before | now))

    def at(self, moment: float) -> dict[int, float]:
        """Seconds of each process at the last look before ``moment``, since the block's beginning."""
        seen = [seconds for when, seconds in self.looks if when <= moment] or [self.looks[0][1]]
        return {pid: each - self.looks[0][1].get(pid, 0.0) for pid, each in seen[-1].items()}

    def _watch(self) -> None:
        while not self._over.wait(EVERY):
            self.look()
