"""Trees of folders, on disk or in an archive: every image under a folder once, and a count of all omissions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from robust_transfer.data.decode import extensions
from robust_transfer.data.encoded import Images

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
NOWHERE = "links that lead nowhere"
SPECIAL = "devices, pipes and sockets"
SYSTEM_FILES = {"thumbs.db", "desktop.ini", "ehthumbs.db", "picasa.ini"}


class Tree(ABC):
    """Listing of folders with counts of omitted files, by kind: ``left["files with the extension .txt"]``."""

    def __init__(self) -> None:
        self.left: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self._seen: set[tuple[str, str]] = set()
        self._found: dict[Path, list[Path]] = {}

    @abstractmethod
    def listing(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """Folders and files in ``folder``, by name; read once."""

    @abstractmethod
    def no_file(self, path: Path) -> str | None:
        """Kind of a non-file at ``path``, such as :data:`NOWHERE`; None for a file."""

    @abstractmethod
    def real(self, folder: Path) -> str:
        """Folder with links resolved."""

    @abstractmethod
    def spelt(self, name: str) -> str:
        """Name of a file or folder as text; raises UnicodeDecodeError where it is not UTF-8."""

    @abstractmethod
    def read(self, path: Path, most: int | None = None) -> bytes:
        """Content of a file, or its first ``most`` bytes; :class:`DataError` where it cannot be read."""

    @abstractmethod
    def at(self, folder: Path, written: str) -> Path:
        """Target of the path ``written`` in a table in ``folder``; ValueError, with the reason, for a forbidden one."""

    @abstractmethod
    def opened(self, paths: Sequence[Path]) -> Images:
        """Image files at ``paths``, decoded on demand."""

    def folders(self, folder: Path) -> list[Path]:
        """Folders in ``folder`` that may contain images, by name; hidden and system ones are left out."""
        found = []
        for path in self.listing(folder)[0]:
            if path.name.startswith(".") or path.name.casefold() in SYSTEM_FOLDERS:
                self._leave("hidden folders, and thumbnails of systems and programs", path)
            else:
                found.append(path)
        return found

    def images(self, folder: Path) -> list[Path]:
        """Image files in and below ``folder``, by path; folders reached again through links are read once."""
        if folder not in self._found:
            self._found[folder] = sorted(self._images(folder, set()))
        return list(self._found[folder])

    def own_images(self, folder: Path) -> list[Path]:
        """Image files directly in ``folder``."""
        return [path for path in self.listing(folder)[1] if self._is_image(path)]

    def files(self, folder: Path) -> list[Path]:
        """Everything in ``folder`` but folders."""
        return list(self.listing(folder)[1])

    def notes(self) -> list[str]:
        """Sentences on omissions."""
        return [
            f"left out: {count} {kind} (such as {self.examples[kind]!r})" for kind, count in sorted(self.left.items())
        ]

    def _images(self, folder: Path, seen: set[str]) -> Iterator[Path]:
        real = self.real(folder)
        if real in seen:
            self._leave(READ_ANYWAY, folder)
            return
        seen.add(real)
        yield from self.own_images(folder)
        for inner in self.folders(folder):
            yield from self._images(inner, seen)

    def _is_image(self, path: Path) -> bool:
        suffix = path.suffix.casefold()
        if (kind := self.no_file(path)) is not None:
            self._leave(kind, path)
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
