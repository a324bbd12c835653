"""Files of weights at an address: downloaded once into one cache folder, then read without executing them."""

from __future__ import annotations

from typing_extensions import override

from robust_transfer.sources.base import SOURCES
from robust_transfer.sources.foreign import ForeignKind, Got

SCHEMES = ("https://", "http://", "gdrive:")


@SOURCES.register("an http(s) address", summary="a file of weights that is downloaded once", paper="")
class FromAddress(ForeignKind):
    """``https://...``, ``http://...`` and ``gdrive:ID``."""

    @override
    def takes(self, name: str) -> bool:
        return name.lower().startswith(SCHEMES)

    @override
    def get(self, name: str) -> Got:
        from robust_transfer.download import fetch

        got = fetch(name)
        return Got(got.path, got.address, got.sha256, got.revision or "")

    @override
    def listed(self) -> dict[str, str]:
        return {"https://...": "a file of weights that is downloaded once"}

    @override
    def zoo(self) -> dict[str, str]:
        from robust_transfer.foreign.zoos import summaries

        return summaries("https://")
