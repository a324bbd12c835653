"""Files of real disks: every image under a folder once, and a count of all that is left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from robust_transfer.data.decode import extensions
from robust_transfer.errors import DataError

# Folders that systems and programs leave beside pictures: thumbnails, resource forks, previews.
SYSTEM_FOLDERS = {
    "__macosx",
    "@eadir",
    "thumbs",
    "thumbnails",
    "$recycle.bin",
    "lost+found",
    "system volume information",
}
READ_ANYWAY = "links to folders that are read already"
SYSTEM_FILES = {"thumbs.db", "desktop.ini", "ehthumbs.db", "picasa.ini"}


@dataclass
class Disk:
    """Listing of folders that remembers what it left out, by kind: ``left["files with the extension .txt"]``."""

    left: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    _seen: set[tuple[str, str]] = field(default_factory=set)
    _found: dict[Path, list[Path]] = field(default_factory=dict)
    _listings: dict[Path, tuple[list[Path], list[Path]]] = field(default_factory=dict)

    def folders(self, folder: Path) -> list[Path]:
        """Folders in ``folder`` that may hold images, by name; hidden ones and systems' own are left out."""
        found = []
        for path in self._listing(folder)[0]:
            if path.name.startswith(".") or path.name.casefold() in SYSTEM_FOLDERS:
                self._leave("hidden folders, and thumbnails of systems and programs", path)
            else:
                found.append(path)
        return found

    def images(self, folder: Path) -> list[Path]:
        """Image files in ``folder`` and in the folders under it, by path; a folder that links lead back to is read once."""
        if folder not in self._found:
            self._found[folder] = sorted(self._images(folder, set()))
        return list(self._found[folder])

    def own_images(self, folder: Path) -> list[Path]:
        """Image files in ``folder`` itself."""
        return [path for path in self._listing(folder)[1] if self._is_image(path)]

    def files(self, folder: Path) -> list[Path]:
        """Everything in ``folder`` that is no folder."""
        return list(self._listing(folder)[1])

    def notes(self) -> list[str]:
        """Sentences on what was left out."""
        return [
            f"left out: {count} {kind} (such as {self.examples[kind]!r})" for kind, count in sorted(self.left.items())
        ]

    def _images(self, folder: Path, seen: set[str]) -> Iterator[Path]:
        real = os.path.realpath(folder)
        if real in seen:
            self._leave(READ_ANYWAY, folder)
            return
        seen.add(real)
        yield from self.own_images(folder)
        for inner in self.folders(folder):
            yield from self._images(inner, seen)

    def _is_image(self, path: Path) -> bool:
        suffix = path.suffix.casefold()
        if path.is_dir():
            self._leave(READ_ANYWAY, path)
        elif not path.is_file():
            self._leave("devices, pipes and sockets" if path.exists() else "links that lead nowhere", path)
        elif path.name.startswith("."):
            self._leave("hidden files, and resource forks", path)
        elif path.name.casefold() in SYSTEM_FILES:
            self._leave("files of systems and programs", path)
        elif suffix not in extensions():
            self._leave(f"files with the extension {suffix}" if suffix else "files without an extension", path)
        else:
            return True
        return False

    def _leave(self, kind: str, path: Path) -> None:
        if (kind, str(path)) not in self._seen:
            self._seen.add((kind, str(path)))
            self.left[kind] += 1
            self.examples.setdefault(kind, path.name)

    def _listing(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """Folders in ``folder``, and what is none, each by name; read from the disk once.

        A link to the folder itself or to one above it counts with the others: what is there is read without it.
        """
        if folder not in self._listings:
            folders: list[Path] = []
            others: list[Path] = []
            above = {os.path.realpath(folder)}
            above |= {str(parent) for parent in Path(*above).parents}
            try:
                with os.scandir(folder) as entries:
                    for entry in sorted(entries, key=lambda entry: entry.name):
                        circle = entry.is_symlink() and os.path.realpath(entry.path) in above
                        (folders if _is_folder(entry) and not circle else others).append(folder / entry.name)
            except OSError as error:
                raise DataError(f"cannot read the folder {folder}: {error.strerror or error}") from None
            self._listings[folder] = folders, others
        return self._listings[folder]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False
