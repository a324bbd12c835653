"""Folders on disk: broken, circular and repeated links, and special files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from robust_transfer.data.encoded import FileImages
from robust_transfer.data.formats.tree import NOWHERE, READ_ANYWAY, SPECIAL, Tree
from robust_transfer.errors import DataError


class Disk(Tree):
    """Folders of a disk."""

    def __init__(self) -> None:
        super().__init__()
        self._listings: dict[Path, tuple[list[Path], list[Path]]] = {}

    def listing(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """Folders and files in ``folder``, by name; read from the disk once.

        Links to the folder itself or to one above it count as files: their contents are read without them.
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

    def no_file(self, path: Path) -> str | None:
        """Kind of links, devices, pipes and sockets."""
        try:
            if path.is_dir():
                return READ_ANYWAY
            return None if path.is_file() else SPECIAL if path.exists() else NOWHERE
        except OSError:  # a name that is too long, a folder that may not be entered
            return NOWHERE

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
        """Image files."""
        return FileImages(list(paths))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False
