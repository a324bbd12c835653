"""Registries: name -> class with a one-line summary and a reference, and helpful errors for unknown names."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from robust_transfer.errors import UnknownNameError
from robust_transfer.messages import logger

T = TypeVar("T")
log = logger(__name__)

LISTED = 20  # an error message lists at most so many names


def nearest(name: str, known: list[str]) -> list[str]:
    """Names in ``known`` most similar to ``name``, best first (at most three)."""
    folded = {k.casefold().replace("_", "-"): k for k in known}
    close = difflib.get_close_matches(name.casefold().replace("_", "-"), folded, n=3, cutoff=0.5)
    return [folded[c] for c in close]


def unknown(what: str, name: str, known: list[str]) -> str:
    """One sentence that names the nearest known names, or else all of them (the first :data:`LISTED`)."""
    close = nearest(name, known)
    listed = ", ".join(sorted(known)[:LISTED]) + (f" and {len(known) - LISTED} more" if len(known) > LISTED else "")
    hint = f"did you mean {' or '.join(repr(c) for c in close)}?" if close else f"known: {listed}."
    return f"unknown {what} {name!r}: {hint}"


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One registered class: its public ``name``, a summary line, and its reference."""

    name: str
    cls: type[T]
    summary: str
    paper: str


class Registry(Generic[T]):
    """Mapping from public names to classes of one kind ("strategy", "attack", ...).

    Other packages add to it by entry points of the ``group``, each a module that registers something when it is imported.
    They are loaded when a name is first looked up; one that cannot be loaded is logged as a warning and left out.
    """

    def __init__(self, kind: str, group: str | None = None) -> None:
        self.kind, self.group = kind, group
        self._entries: dict[str, Entry[T]] = {}
        self._loaded = False

    def register(self, name: str, *, summary: str, paper: str) -> Callable[[type[T]], type[T]]:
        """Class decorator. ``paper`` cites the source (authors, year, section)."""

        def add(cls: type[T]) -> type[T]:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._entries[name] = Entry(name, cls, summary, paper)
            return cls

        return add

    def get(self, name: str) -> type[T]:
        """Class called ``name``; raises :class:`UnknownNameError` with the nearest names."""
        return self.entry(name).cls

    def entry(self, name: str) -> Entry[T]:
        """Whole entry called ``name``."""
        self._load()
        if name not in self._entries:
            raise UnknownNameError(unknown(self.kind, name, self.names()))
        return self._entries[name]

    def name_of(self, cls: type[T]) -> str:
        """Public name of a registered class."""
        for entry in self:
            if entry.cls is cls:
                return entry.name
        raise UnknownNameError(f"{cls.__name__} is not a registered {self.kind}")

    def names(self) -> list[str]:
        """Registered names, in registration order."""
        self._load()
        return list(self._entries)

    def __iter__(self) -> Iterator[Entry[T]]:
        self._load()
        return iter(list(self._entries.values()))

    def __len__(self) -> int:
        self._load()
        return len(self._entries)

    def _load(self) -> None:
        if self._loaded or self.group is None:
            return
        self._loaded = True  # before loading: loaded modules may look names up
        for point in entry_points(group=self.group):
            try:
                point.load()
            except Exception as error:  # third-party code may raise anything
                package = point.dist.name if point.dist is not None else point.value
                log.warning("the %s %r of %s cannot be loaded: %s", self.kind, point.name, package, error)
