"""Where a study keeps what it has made: folders named by what went into them, made once and by one process at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock


@dataclass(frozen=True)
class Store:
    """A study's folder; it may be shared by several processes, and by several machines."""

    root: Path

    def folder(self, kind: str, key: str) -> Path:
        """Where a thing of this kind and address lives, whether it is there or not."""
        return self.root / kind / key

    def once(self, kind: str, key: str, finished: Callable[[Path], bool], make: Callable[[Path], object]) -> Path:
        """The folder of a thing, which is made if it is not finished; who comes meanwhile waits for it.

        A lock is let go of when its process dies, so that nothing waits for the dead.
        """
        folder = self.folder(kind, key)
        if finished(folder):
            return folder
        lock = self.root / "locks" / f"{kind}-{key}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(str(lock)):
            if not finished(folder):
                make(folder)
        return folder
