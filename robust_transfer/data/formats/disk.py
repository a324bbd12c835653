"""Folders on disk: broken, circular and repeated links, and special files."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from robust_transfer.data.encoded import FileImages
from robust_transfer.data.formats.tree import NOWHERE, READ_ANYWAY, SPECIAL, Tree
from robust_transfer.errors import DataError


class Disk(Tree):
    """Folders of a disk."""

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[Path, tuple[list[str], list[str]]] = {}
        self._files: dict[Path, set[str]] = {}

    def names(self, folder: Path) -> tuple[list[str], list[str]]:
        """Names of the folders in ``folder``, and of what is none, in order; read from the disk once.

        Links to the folder itself or to one above it count as files: their contents are read without them.
        """
        if folder not in self._names:
            folders, others, files = list[str](), list[str](), set[str]()
            above = {os.path.realpath(folder)}
            above |= {str(parent) for parent in Path(*above).parents}
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        circle = entry.is_symlink() and os.path.realpath(entry.path) in above
                        if _is(entry.is_dir) and not circle:
                            folders.append(entry.name)
                            continue
                        others.append(entry.name)
                        if _is(entry.is_file):  # which the folder says, without a look at the file
                            files.add(entry.name)
            except OSError as error:
                raise DataError(f"cannot read the folder {folder}: {error.strerror or error}") from None
            self._names[folder], self._files[folder] = (sorted(folders), sorted(others)), files
        return self._names[folder]

    def no_file(self, path: Path) -> str | None:
        """Links, devices, pipes and sockets."""
        if path.name in self._files.get(path.parent, ()):
            return None
        try:
            kind = os.stat(path).st_mode
        except (OSError, ValueError):  # a name that is too long or no name, a folder that may not be entered
            return NOWHERE
        return READ_ANYWAY if stat.S_ISDIR(kind) else None if stat.S_ISREG(kind) else SPECIAL

    def real(self, folder: Path) -> str:
        """Path without links."""
        return os.path.realpath(folder)

    def spelt(self, name: str) -> str:
        """Name as text, from UTF-8 bytes whatever the system's encoding."""
        return os.fsencode(name).decode("utf-8")

    def read(self, path: Path, most: int | None = None) -> bytes:
        """Bytes of the file."""
        try:
            with path.open("rb") as file:
                return file.read(most)
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}") from None

    def at(self, folder: Path, written: str) -> Path:
        """Path relative to ``folder``, or absolute; a table may refer to folders above."""
        return folder / written

    def opened(self, paths: Sequence[Path]) -> FileImages:
        """The files themselves."""
        return FileImages(paths)


def _is(asked: Callable[[], bool]) -> bool:
    try:
        return asked()
    except OSError:  # a link in a circle
        return False
