"""Base of the kinds of sources that a library publishes: the library states network and preprocessing of a file."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from robust_transfer.errors import ConfigError
from robust_transfer.sources.foreign import ForeignKind, Got

if TYPE_CHECKING:
    from torch import Tensor

    from robust_transfer.foreign.contents import Contents
    from robust_transfer.foreign.families.base import Architecture
    from robust_transfer.foreign.finding import Found
    from robust_transfer.foreign.hints import Hints
    from robust_transfer.foreign.published import Published


@dataclass(frozen=True, eq=False)
class Reading:
    """File as its library reads it: the ``state`` of its own network under current names, with its description."""

    family: str
    architecture: Architecture
    published: Published
    state: Mapping[str, Tensor]
    class_names: tuple[str, ...] | None = None


class LibraryKind(ForeignKind):
    """Base of these kinds; no evidence is needed, and hints cannot change the library's statements."""

    @abstractmethod
    def canonical(self, name: str) -> str:
        """Full name of a source.

        Raises :class:`UnknownNameError`, and :class:`ConfigError` for names that are not sources.
        """

    @abstractmethod
    def read(self, name: str, contents: Contents, state: Mapping[str, Tensor], at: str) -> Reading:
        """Reading of a file from ``at``, its flat ``state`` laid out. Raises :class:`CheckpointError`."""

    @override
    def found(self, name: str, hints: Hints) -> tuple[Found, Got]:
        from robust_transfer.foreign.finding import Found
        from robust_transfer.foreign.layout import COUNTER, lay_out
        from robust_transfer.foreign.reading import read_weights

        name = self.canonical(name)
        told: dict[str, Any] = {"network": hints.network, "settings": hints.settings, "weights": hints.weights}
        if given := [what for what, value in told.items() if value is not None]:
            raise ConfigError(f"{name!r} says itself which network it is: {given[0]} cannot be given")
        got = self.get(name)
        contents = read_weights(got.path)
        layout = lay_out(contents)
        reading = self.read(name, contents, layout.state, got.address)
        state = {key: value for key, value in reading.state.items() if not key.endswith(COUNTER)}
        notes = layout.notes
        if renamed := len(state.keys() - {*layout.state, *(layout.prefix + key for key in layout.state)}):
            notes = (*notes, f"{renamed} names of an older layout: translated as {reading.published.by} does it")
        layout = replace(layout, state=state, notes=notes)
        if hints.class_names is None and reading.class_names is not None:
            hints = replace(hints, class_names=reading.class_names)
        found = Found(name, contents, layout, reading.family, reading.architecture, hints, reading.published)
        return found, got
