"""Base of the kinds of third-party sources: a file is downloaded or found, then read without executing it."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from robust_transfer.sources.base import SourceKind

if TYPE_CHECKING:
    from robust_transfer.checkpoint import Checkpoint
    from robust_transfer.data import Split
    from robust_transfer.foreign.finding import Found
    from robust_transfer.foreign.hints import Hints
    from robust_transfer.foreign.zoos import Entry


@dataclass(frozen=True)
class Got:
    """File of weights on this machine: its ``address``, its hash and revision if known."""

    path: Path
    address: str
    sha256: str = ""
    revision: str = ""


class ForeignKind(SourceKind):
    """Base of these kinds; subclasses locate the file. A zoo's table supplies hints, which the user's override."""

    @abstractmethod
    def get(self, name: str) -> Got:
        """File of the source called ``name``, downloaded if need be. Raises :class:`CheckpointError`."""

    def entry(self, name: str, got: Got) -> Entry | None:
        """Entry of a zoo for the file, by its address or its hash; None for others."""
        from robust_transfer.foreign.zoos import known_file

        return known_file(got.address, got.sha256 or None)

    def pushed(self, name: str) -> Checkpoint | None:
        """Checkpoint of a pushed run folder; None for third-party files."""
        return None

    @override
    def load(self, name: str) -> Checkpoint:
        from robust_transfer.foreign.hints import Hints

        return self.load_with(name, Hints(), None)

    @override
    def load_with(self, name: str, hints: Hints, images: Split | None) -> Checkpoint:
        from robust_transfer.foreign.importing import bring_in

        found, got = self.found(name, hints)
        return bring_in(found, images, sha256=got.sha256, revision=got.revision)

    def found(self, name: str, hints: Hints) -> tuple[Found, Got]:
        """Result of reading the file of ``name``, and its location."""
        from robust_transfer.foreign.finding import find

        got = self.get(name)
        entry = self.entry(name, got)
        if entry is None:
            return find(got.path, hints=hints, address=got.address), got
        from robust_transfer.foreign.zoos.hints import hints as told
        from robust_transfer.foreign.zoos.hints import published

        known, said = told(entry), {key: value for key, value in vars(hints).items() if value is not None}
        if hints.threat is not None:
            known = replace(known, threat_from=None)
        found = find(got.path, hints=replace(known, **said), address=got.address)
        return replace(found, zoo=published(entry)), got
