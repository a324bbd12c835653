"""The source of the package that fits the images, by their size."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from typing_extensions import override

from robust_transfer.errors import CheckpointError
from robust_transfer.sources.base import SOURCES, SourceKind
from robust_transfer.sources.packaged import BUNDLED, BUNDLED_64, card_of, load_packaged

if TYPE_CHECKING:
    from robust_transfer.checkpoint import Checkpoint
    from robust_transfer.data import Split
    from robust_transfer.foreign.hints import Hints

AUTO = "auto"


@SOURCES.register("'auto'", summary="the robust source of the package that fits the images' size", paper="")
class Fitting(SourceKind):
    """Source ``auto``."""

    @override
    def takes(self, name: str) -> bool:
        return name == AUTO

    def load(self, name: str) -> Checkpoint:
        """Always raises: the choice needs images."""
        from robust_transfer.foreign.evidence import UndecidedError

        raise UndecidedError(
            "which source fits is told by the images, and there are none: give data, or a source's name"
        )

    @override
    def load_with(self, name: str, hints: Hints, images: Split | None) -> Checkpoint:
        return self.load(name) if images is None else load_packaged(fitting(images))

    @override
    def listed(self) -> dict[str, str]:
        return {AUTO: f"{' or '.join(_sizes())}: the one whose input size is nearest to the images'"}


def fitting(images: Split) -> str:
    """Name of the packaged robust source with the input size nearest to the images' short side, by ratio."""
    sizes = _sizes()
    if not sizes:
        raise CheckpointError("this installation has no packaged source: give a run folder")
    return min(sizes, key=lambda name: abs(math.log(sizes[name] / images.short_side)))


def _sizes() -> dict[str, int]:
    """Installed robust sources of the package, with their input sizes."""
    return {
        name: json.loads(card.read_text(encoding="utf-8"))["network"]["preprocessing"]["size"]
        for name in (BUNDLED, BUNDLED_64)
        if (card := card_of(name)).is_file()
    }
