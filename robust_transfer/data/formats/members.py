"""Archives read in place: their files by path, links followed inside and never out, one file opened for each read."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import IO, Generic, TypeVar

from robust_transfer.data.formats.tree import NOWHERE, SPECIAL
from robust_transfer.errors import DataError

MOST_BYTES = 2**29  # that one file in an archive may hold: twice as much as any image that is decoded
DEEPEST = 100  # folders above a file
LINKS = 40  # that are followed one after the other, as systems do
OUT, TO_FOLDERS = "links that lead out of the archive", "links to folders in the archive"
UNPACK = "unpack it, and give the folder"

Member = TypeVar("Member")


class Archive(ABC, Generic[Member]):
    """Files in the archive at ``path``: ``members`` by their paths, ``folders``, and the kind of all ``others``.

    Raises :class:`DataError` for a damaged archive, a repeated path, or a path that leads out of it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.members: dict[str, Member] = {}
        self.folders: set[str] = set()
        self.others: dict[str, str] = {}
        self._links: dict[str, str | None] = {}
        with path.open("rb") as file:
            self._stamp = _stamp(file)

    @abstractmethod
    def size(self, member: Member) -> int:
        """Declared size of ``member`` in bytes."""

    @abstractmethod
    def _content(self, file: IO[bytes], member: Member) -> bytes:
        """Bytes of a member in the open archive; ValueError if they contradict their declaration."""

    def read(self, name: str) -> bytes:
        """Content of the file called ``name``; ValueError, with the reason, if unreadable. Callable from any thread."""
        member = self.members[name]
        if self.size(member) > MOST_BYTES:
            raise ValueError(f"it says to hold {self.size(member)} bytes, more than the {MOST_BYTES} that are read")
        with self.path.open("rb") as file:  # one for each read: threads and processes share no position
            if _stamp(file) != self._stamp:
                raise ValueError("the archive has changed since it was opened")
            content = self._content(file, member)
        if len(content) != self.size(member):
            raise ValueError(f"it does not hold the {self.size(member)} bytes that it says")
        return content

    def add(self, written: str, member: Member) -> None:
        """Add a file."""
        self.members[self._new(written)] = member

    def add_folder(self, written: str) -> None:
        """Add a folder, which may be empty."""
        if name := self._named(written):
            self.folders.add(name)

    def add_special(self, written: str) -> None:
        """Add a device or a pipe."""
        self.others[self._named(written)] = SPECIAL

    def add_link(self, written: str, target: str, folder: str = "") -> None:
        """Add a link to ``target``, a path from ``folder``."""
        name = self._new(written)
        try:
            self._links[name] = joined(folder, target)
        except ValueError:
            self._links[name] = None

    def _new(self, written: str) -> str:
        name = self._named(written)
        if name in self.members or name in self._links:
            raise DataError(f"{self.path} holds {name!r} twice: {UNPACK}")
        return name

    def _named(self, written: str) -> str:
        """Path as a lookup key; refused where unpacking would write it elsewhere."""
        if written.startswith("/") or written[1:3] in (":/", ":\\") or ".." in written.split("/"):
            raise DataError(
                f"{self.path} holds {written[:80]!r}, a path that leads out of it: pack it again without such paths"
            )
        if written.count("/") > DEEPEST:
            raise DataError(f"{self.path} holds {written[:80]!r}, which lies too deep below other folders: {UNPACK}")
        return joined("", written)

    def follow_links(self) -> None:
        """Resolve links to files, and classify the others. Call it after all members are added."""
        for name in self._links:
            target: str | None = name
            for _ in range(LINKS):
                target = self._links.get(target, target) if target is not None else None
            if target is not None and target in self.members:
                self.members[name] = self.members[target]
            elif target is None:
                self.others[name] = OUT
            else:
                within = target in self.folders or any(each.startswith(f"{target}/") for each in self.members)
                self.others[name] = TO_FOLDERS if within else NOWHERE


def joined(folder: str, written: str) -> str:
    """Path in the archive for ``written`` in ``folder``; ValueError for one that leads out of it."""
    if written.startswith("/"):
        raise ValueError("it is no path within the archive")
    parts: list[str] = []
    for part in (*folder.split("/"), *written.split("/")):
        if part == ".." and not parts:
            raise ValueError("it leads out of the archive")
        if part == "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _stamp(file: IO[bytes]) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns
