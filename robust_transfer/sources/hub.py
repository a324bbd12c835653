"""Files of weights on the Hugging Face Hub, pinned to their commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import override

from robust_transfer.sources.base import SOURCES
from robust_transfer.sources.folder import CARD, WEIGHTS
from robust_transfer.sources.foreign import ForeignKind, Got
from robust_transfer.texts import read_json

if TYPE_CHECKING:
    from pathlib import Path

    from robust_transfer.checkpoint import Checkpoint
    from robust_transfer.data import Split
    from robust_transfer.foreign.hints import Hints

PREFIX = "hf:"


@SOURCES.register(
    "hf:OWNER/REPO", summary="weights on the Hugging Face Hub; @REVISION and /FILE where several", paper=""
)
class FromHub(ForeignKind):
    """``hf:OWNER/REPO[@REVISION][/FILE]``; a pushed run folder is loaded as one."""

    def __init__(self) -> None:
        self._kept = dict[str, Got]()

    @override
    def takes(self, name: str) -> bool:
        return name.startswith(PREFIX)

    @override
    def get(self, name: str) -> Got:
        from robust_transfer.download import fetch

        if name not in self._kept:  # the Hub is asked once
            got = fetch(name)
            self._kept[name] = Got(got.path, got.address, got.sha256, got.revision or "")
        return self._kept[name]

    @override
    def load_with(self, name: str, hints: Hints, images: Split | None) -> Checkpoint:
        pushed = self.pushed(name)
        if pushed is None:
            return super().load_with(name, hints, images)
        self.refuse(name, hints)
        return pushed

    @override
    def pushed(self, name: str) -> Checkpoint | None:
        from robust_transfer.checkpoint import load_checkpoint

        path = self.get(name).path
        return load_checkpoint(path.parent) if path.name == WEIGHTS and _is_ours(path.with_name(CARD)) else None

    @override
    def listed(self) -> dict[str, str]:
        return {"hf:OWNER/REPO[@REVISION][/FILE]": "weights on the Hugging Face Hub, pinned to their commit"}

    @override
    def zoo(self) -> dict[str, str]:
        from robust_transfer.foreign.zoos import summaries

        return summaries(PREFIX)


def _is_ours(card: Path) -> bool:
    """True for a card of this project, even a damaged one; other projects may use the file name, too."""
    try:
        raw = read_json(card)
    except (OSError, ValueError):
        return False
    return isinstance(raw, dict) and {"schema", "network", "weights_hash"} <= raw.keys()
