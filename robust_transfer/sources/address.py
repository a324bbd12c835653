"""Files of weights at an address: downloaded once into one cache folder, then read without executing them."""

from __future__ import annotations

from robust_transfer.sources.base import SOURCES
from robust_transfer.sources.foreign import ForeignKind, Got

SCHEMES = ("https://", "http://", "gdrive:")


@SOURCES.register("an http(s) address", summary="a file of weights that is downloaded once", paper="")
class FromAddress(ForeignKind):
    """``https://...``, ``http://...`` and ``gdrive:ID``."""

    def takes(self, name: str) -> bool:
        """See :class:`SourceKind`."""
        return name.lower().startswith(SCHEMES)

    def get(self, name: str) -> Got:
        """See :class:`ForeignKind`."""
        from robust_transfer.download import fetch

        got = fetch(name)
        return Got(got.path, got.address, got.sha256, got.revision or "")

    def listed(self) -> dict[str, str]:
        """See :class:`SourceKind`."""
        return {"https://...": "a file of weights that is downloaded once"}

    def zoo(self) -> dict[str, str]:
        """See :class:`SourceKind`."""
        from robust_transfer.foreign.zoos import summaries

        return summaries("https://")
