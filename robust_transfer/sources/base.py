"""Kinds of sources and their registry: a source is a network to transfer from. Results are sources, too."""

from __future__ import annotations

from abc import ABC, abstractmethod
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from robust_transfer.config import expect
from robust_transfer.errors import ConfigError, UnknownNameError
from robust_transfer.registry import Registry, unknown

if TYPE_CHECKING:
    from robust_transfer.checkpoint import Checkpoint
    from robust_transfer.data import Split
    from robust_transfer.foreign.hints import Hints


class SourceKind(ABC):
    """Base of the kinds of sources. A kind of its own is one file: a subclass, registered with :data:`SOURCES`."""

    @abstractmethod
    def takes(self, name: str) -> bool:
        """True if a source of this name is of this kind. The kinds are asked in the order of their registration."""

    @abstractmethod
    def load(self, name: str) -> Checkpoint:
        """Checkpoint called ``name``; raises :class:`CheckpointError` for what is damaged or cannot be trusted."""

    def load_with(self, name: str, hints: Hints, images: Split | None) -> Checkpoint:
        """Checkpoint called ``name``, with a user's hints, and images as evidence for settings not in the file.

        Kinds with complete cards take no hints.
        """
        self.refuse(name, hints)
        return self.load(name)

    def refuse(self, name: str, hints: Hints) -> None:
        """Raise :class:`ConfigError` for hints on a source with a complete card."""
        if hints != type(hints)():
            raise ConfigError(f"{name!r} has a complete card: a network, a normalisation or the like cannot be given")

    def listed(self) -> dict[str, str]:
        """Names that ``list sources`` shows, with a line on each. Reads no weights, does not import PyTorch."""
        return {}

    def zoo(self) -> dict[str, str]:
        """Names of a zoo, with a line on each, which ``list sources`` adds to those of :meth:`listed`."""
        return {}

    def suggestions(self, name: str) -> list[str]:
        """Names of this kind similar to a misspelt ``name``."""
        return []


SOURCES: Registry[SourceKind] = Registry("kind of source", group="robust_transfer.sources")


def load_source(name: str | Path, *, hints: Hints | None = None, images: Split | None = None) -> Checkpoint:
    """Checkpoint called ``name``: a packaged one, a run folder (such as ``./natural``), or third-party weights.

    The package has ``bundled`` for images of 32 pixels, ``bundled-64`` for larger ones, and ``natural``, the control:
    the network of ``bundled``, trained on the same images without adversarial examples. ``auto`` is the robust one of
    these that fits the size of ``images``. For third-party weights, ``hints`` supply settings that their file may not
    contain; ``images``, similar to the training images, are evidence for these settings. Raises
    :class:`UnknownNameError` with the nearest names for an unknown name, :class:`ConfigError` for hints that a source
    does not take, :class:`CheckpointError` for a file or folder that is not a run folder, or damaged.
    """
    expect("the name of a source", name, str, PathLike, hint="such as 'bundled', or a run folder")
    kinds = [entry.cls() for entry in SOURCES]
    for kind in kinds:
        if kind.takes(str(name)):
            return kind.load(str(name)) if hints is None and images is None else _with(kind, str(name), hints, images)
    known = [suggestion for kind in kinds for suggestion in kind.suggestions(str(name))]
    raise UnknownNameError(f"{unknown('source', str(name), known)} ({what_there_is()})")


def _with(kind: SourceKind, name: str, hints: Hints | None, images: Split | None) -> Checkpoint:
    from robust_transfer.foreign.hints import Hints

    return kind.load_with(name, hints or Hints(), images)


def list_sources(*, zoos: bool = False) -> dict[str, str]:
    """Names that :func:`load_source` takes, with a line on each; with ``zoos`` those of each zoo."""
    kinds = [entry.cls() for entry in SOURCES]
    return {name: line for kind in kinds for name, line in (kind.listed() | (kind.zoo() if zoos else {})).items()}


def what_there_is() -> str:
    """Kinds of sources, a clause."""
    return f"a source is {', or '.join(entry.name for entry in SOURCES)}"
