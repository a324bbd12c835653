"""Run folders as sources: whatever ``pretrain`` and ``transfer`` have saved."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from robust_transfer.errors import CheckpointError
from robust_transfer.files import expanded
from robust_transfer.sources.base import SOURCES, SourceKind, what_there_is

if TYPE_CHECKING:
    from robust_transfer.checkpoint import Checkpoint

WEIGHTS, CARD = "model.safetensors", "card.json"
PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".tar", ".npz"}


@SOURCES.register(f"a run folder with {WEIGHTS} and {CARD}", summary="what pretrain or transfer has saved", paper="")
class RunFolder(SourceKind):
    """Any path that exists; what is no run folder is refused with what it seems to be."""

    def takes(self, name: str) -> bool:
        """See :class:`SourceKind`."""
        try:
            return bool(name) and expanded(name).exists()
        except OSError as error:  # a folder above that may not be entered, a name that is too long
            raise CheckpointError(f"cannot read {name!r}: {error.strerror or error}") from None

    def load(self, name: str) -> Checkpoint:
        """See :class:`SourceKind`."""
        from robust_transfer.checkpoint import load_checkpoint

        path = expanded(name)
        if not path.is_dir():
            raise CheckpointError(_what_a_file_is(path))
        return load_checkpoint(path)

    def listed(self) -> dict[str, str]:
        """See :class:`SourceKind`."""
        return {"FOLDER": f"a run folder, with {WEIGHTS} and {CARD}"}

    def suggestions(self, name: str) -> list[str]:
        """Run folders beside a path that does not exist."""
        try:
            siblings = sorted(expanded(name).parent.iterdir())
        except OSError:
            return []
        return [os.fspath(path) for path in siblings if _is_run_folder(path)]


def _what_a_file_is(path: Path) -> str:
    if path.suffix in PICKLES:
        return f"{path} may be a pickle, which can run code, so it is never loaded: {what_there_is()}"
    if path.name in (WEIGHTS, CARD):
        return f"{path} is one file of a run folder: give the folder, {str(path.parent)!r}"
    return f"{path} is a file: {what_there_is()}"


def _is_run_folder(path: Path) -> bool:
    try:
        return (path / CARD).is_file() and (path / WEIGHTS).is_file()
    except OSError:  # a neighbour that may not be entered
        return False
