"""Store of a study: content-addressed folders, each made once and by one process at a time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from robust_transfer.training.processes import Processes


@dataclass(frozen=True)
class Store:
    """Folder of a study, shared by several processes or machines."""

    root: Path

    def folder(self, kind: str, key: str) -> Path:
        """Folder for a kind and address, present or not."""
        return self.root / kind / key

    def once(
        self, kind: str, key: str, finished: Callable[[Path], bool], make: Callable[[Path], object], team: Processes
    ) -> Path:
        """Finished folder, made if missing; concurrent callers wait for it.

        All processes of a ``team`` that trains together make it together; its main one holds the lock for all. Locks
        are released when their process dies.
        """
        folder = self.folder(kind, key)
        if team.from_main(finished(folder)):
            return folder
        lock = self.root / "locks" / f"{kind}-{key}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(str(lock)) if team.main else nullcontext():
            if not team.from_main(finished(folder)):
                make(folder)
            team.from_main(None)  # the others go on when it is written
        return folder
