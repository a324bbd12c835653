"""Run folders as sources: results of ``pretrain`` and ``transfer``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from robust_transfer.errors import CheckpointError
from robust_transfer.files import expanded
from robust_transfer.sources.base import SOURCES, SourceKind

if TYPE_CHECKING:
    from robust_transfer.checkpoint import Checkpoint

WEIGHTS, CARD = "model.safetensors", "card.json"


@SOURCES.register(f"a run folder with {WEIGHTS} and {CARD}", summary="what pretrain or transfer has saved", paper="")
class RunFolder(SourceKind):
    """Any existing folder; other folders than run folders are refused. Files are third-party weights."""

    @override
    def takes(self, name: str) -> bool:
        try:
            return bool(name) and (path := expanded(name)).exists() and not path.is_file()
        except OSError as error:  # a folder above that may not be entered, a name that is too long
            raise CheckpointError(f"cannot read {name!r}: {error.strerror or error}") from None

    @override
    def load(self, name: str) -> Checkpoint:
        from robust_transfer.checkpoint import load_checkpoint

        return load_checkpoint(expanded(name))

    @override
    def listed(self) -> dict[str, str]:
        return {"FOLDER": f"a run folder, with {WEIGHTS} and {CARD}"}

    def suggestions(self, name: str) -> list[str]:
        """Run folders beside a path that does not exist."""
        try:
            siblings = sorted(expanded(name).parent.iterdir())
        except OSError:
            return []
        return [os.fspath(path) for path in siblings if _is_run_folder(path)]


def _is_run_folder(path: Path) -> bool:
    try:
        return (path / CARD).is_file() and (path / WEIGHTS).is_file()
    except OSError:  # a neighbour that may not be entered
        return False
