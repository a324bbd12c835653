"""Manifest of a run folder: the names of the files that the project has written to it, so that no other is removed."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from robust_transfer.files import TEMPORARY, sweep, write_json
from robust_transfer.texts import read_json

FILE = ".written.json"
LOCK = ".lock"  # held by the writing process, and removed by it

# Folders without a manifest are recognised by these names. The list is final: newer files are in the manifest.
RESULTS = {"card.json", "metrics.jsonl", "evaluation.json", "outcomes.parquet", "table.json"}
RESULTS |= {"model.safetensors", "state.safetensors", "path.safetensors"}
EARLIER = RESULTS | {"config.yaml", "README.md", "deltas.parquet", "index.html", "frontier.svg"}
EARLIER |= {"fingerprints.safetensors"}
PART = re.compile(r"deltas-\d{9}\.parquet")


class Manifest:
    """Files written to ``folder`` by the project, as paths below it.

    A file is noted before it is written: after a kill in between the manifest may name a missing file, but no file is
    left unnamed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(os.path.realpath(folder))
        self.path = self.folder / FILE
        self._names: set[str] | None = None

    @property
    def names(self) -> set[str]:
        """Noted names; empty for a missing or unreadable manifest."""
        if not self.path.exists():  # it is gone where the folder has been emptied
            self._names = set()
        elif self._names is None:
            try:
                self._names = set(read_json(self.path))
            except (ValueError, TypeError):
                self._names = set()
        return self._names or set()

    def knows(self, path: Path) -> bool:
        """True if ``path``, a file below the folder, was written by the project."""
        if path.name in (FILE, LOCK) or TEMPORARY.fullmatch(path.name):
            return True
        return self._name(path) in self.names if self.path.exists() else _is_earlier(path)

    def covers(self, path: Path) -> bool:
        """True if ``path`` lies in the folder."""
        return self._name(path) is not None

    def note(self, path: Path) -> None:
        """Note ``path``, which lies in the folder and is about to be written."""
        name = self._name(path)
        if name is None or path.name == FILE or name in self.names:
            return
        names = self.names | {name} if self.path.exists() else {name, *self._earlier()}
        write_json(self.path, sorted(names))
        self._names = names

    def sweep(self) -> None:
        """Remove what killed writes of the noted files left: for the process that holds the folder."""
        for name in (FILE, *self.names):
            sweep(self.folder / name)

    def tidy(self) -> None:
        """Remove the manifest if none of its files exists."""
        if self.path.exists() and not any((self.folder / name).exists() for name in self.names):
            with suppress(OSError):
                self.path.unlink()

    def _name(self, path: Path) -> str | None:
        """Path below the folder, links resolved; None for a path outside."""
        real = Path(os.path.realpath(path.parent)) / path.name
        return real.relative_to(self.folder).as_posix() if real.is_relative_to(self.folder) else None

    def _earlier(self) -> set[str]:
        """Files that versions without manifests wrote to the folder."""
        there = [path for path in self.folder.rglob("*") if path.is_file() and _is_earlier(path)]
        return {path.relative_to(self.folder).as_posix() for path in there}


def _is_earlier(path: Path) -> bool:
    return path.name in EARLIER or PART.fullmatch(path.name) is not None
