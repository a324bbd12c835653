"""Trees of folders, on disk or in an archive: every image under a folder once, and a count of all omissions."""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Container, Iterator, Sequence
from operator import attrgetter
from pathlib import Path

from robust_transfer.data.decode import extensions, open_image
from robust_transfer.data.encoded import Images, quiet_pillow

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


LOOKED_INTO = 3  # files of a kind that is left out: one of them may be an image by its content
_HEADER = 2**16  # bytes that say it


class Tree(ABC):
    """Listing of folders that remembers what it left out, by kind, such as ``files with the extension .txt``."""

    def __init__(self) -> None:
        self._left: dict[str, dict[str, Path]] = {}  # by kind and normal path
        self._found: dict[Path, list[Path]] = {}

    @abstractmethod
    def names(self, folder: Path) -> tuple[Sequence[str], Sequence[str]]:
        """Names of the folders in ``folder``, and of what is none, in order; read once."""

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
        for name in self.names(folder)[0]:
            if name.startswith(".") or name.casefold() in SYSTEM_FOLDERS:
                self._leave("hidden folders, and thumbnails of systems and programs", folder / name)
            else:
                found.append(folder / name)
        return found

    def images(self, folder: Path) -> list[Path]:
        """Image files in and below ``folder``, by path; folders reached again through links are read once."""
        if folder not in self._found:
            self._found[folder] = sorted(self._images(folder, set()), key=attrgetter("parts"))
        return list(self._found[folder])

    def own_images(self, folder: Path) -> list[Path]:
        """Image files in ``folder`` itself."""
        return [path for name in self.names(folder)[1] if self._is_image(path := folder / name, name)]

    def files(self, folder: Path, endings: tuple[str, ...] = ("",)) -> list[Path]:
        """Everything in ``folder`` that is no folder, if its name has one of the ``endings``, which are in lower case."""
        return [folder / name for name in self.names(folder)[1] if name.casefold().endswith(endings)]

    def notes(self, within: Path | None = None) -> list[str]:
        """Sentences on what was left out, in all or of one folder."""
        kinds = {
            kind: [path for path in left.values() if within is None or path.is_relative_to(within)]
            for kind, left in sorted(self._left.items())
        }
        return [
            f"left out: {len(paths)} {kind} (such as {self._example(paths)})" for kind, paths in kinds.items() if paths
        ]

    def forget(self, named: Container[str]) -> None:
        """Take back that the files at these normal paths were left out: a table names them, or is one of them."""
        kinds = {
            kind: {path: file for path, file in left.items() if path not in named} for kind, left in self._left.items()
        }
        self._left = {kind: left for kind, left in kinds.items() if left}

    def taken_back(self, kind: str) -> int:
        """Number of files of a kind that was left out, which is forgotten."""
        return len(self._left.pop(kind, {}))

    def _images(self, folder: Path, seen: set[str]) -> Iterator[Path]:
        real = self.real(folder)
        if real in seen:
            self._leave(READ_ANYWAY, folder)
            return
        seen.add(real)
        yield from self.own_images(folder)
        for inner in self.folders(folder):
            yield from self._images(inner, seen)

    def _is_image(self, path: Path, name: str) -> bool:
        suffix = path.suffix.casefold()
        if (kind := self.no_file(path)) is not None:
            self._leave(kind, path)
        elif name.startswith("."):
            self._leave("hidden files, and resource forks", path)
        elif name.casefold() in SYSTEM_FILES:
            self._leave("files of systems and programs", path)
        elif suffix not in extensions():
            self._leave(f"files with the extension {suffix}" if suffix else "files without an extension", path)
        else:
            return True
        return False

    def _leave(self, kind: str, path: Path) -> None:
        self._left.setdefault(kind, {})[os.path.normpath(path)] = path

    def _example(self, paths: Sequence[Path]) -> str:
        """Name of one of the files: one that holds an image, if there is such a one among the first."""
        for path in paths[:LOOKED_INTO]:
            if (kind := self._format(path)) is not None:
                return f"{path.name!r}, which holds a {kind} image: give it such an extension, or name it in a table"
        return repr(paths[0].name)

    def _format(self, path: Path) -> str | None:
        if path.name.startswith(".") or self.no_file(path) is not None:
            return None
        try:
            with quiet_pillow(), open_image(io.BytesIO(self.read(path, _HEADER))) as image:
                return image.format
        except Exception:  # PIL's plugins raise whatever they meet
            return None
