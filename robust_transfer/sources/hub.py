"""Files of weights on the Hugging Face Hub, pinned to the commit that they were got at."""

from __future__ import annotations

from robust_transfer.sources.base import SOURCES
from robust_transfer.sources.foreign import ForeignKind, Got

PREFIX = "hf:"


@SOURCES.register(
    "hf:OWNER/REPO", summary="weights on the Hugging Face Hub; @REVISION and /FILE where several", paper=""
)
class FromHub(ForeignKind):
    """``hf:OWNER/REPO[@REVISION][/FILE]``."""

    def takes(self, name: str) -> bool:
        """See :class:`SourceKind`."""
        return name.startswith(PREFIX)

    def get(self, name: str) -> Got:
        """See :class:`ForeignKind`."""
        from robust_transfer.download import fetch

        got = fetch(name)
        return Got(got.path, got.address, got.sha256, got.revision or "")

    def listed(self) -> dict[str, str]:
        """See :class:`SourceKind`."""
        return {"hf:OWNER/REPO[@REVISION][/FILE]": "weights on the Hugging Face Hub, pinned to their commit"}

    def zoo(self) -> dict[str, str]:
        """See :class:`SourceKind`."""
        from robust_transfer.foreign.zoos import summaries

        return summaries(PREFIX)
