"""Provenance: the weights that a network was made from, and theirs in turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import ConfigDict

STRICT = ConfigDict(extra="forbid")  # for cards that are read: no keys but these


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Weights that others were made from. ``data``: the name of their training data; ``weights``: their hash."""

    method: str
    data: str | None
    weights: str
    source: Provenance | Mixture | None = None

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    def hashes(self) -> Iterator[str]:
        """Hashes of these weights and of all their ancestors."""
        yield self.weights
        if self.source is not None:
            yield from self.source.hashes()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; ``source`` only if there is one."""
        record: dict[str, Any] = {"method": self.method, "data": self.data, "weights": self.weights}
        return record if self.source is None else {**record, "source": self.source.to_json()}


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Two sets of weights behind an interpolated one."""

    a: Provenance
    b: Provenance

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    def hashes(self) -> Iterator[str]:
        """Hashes of both, and of all their ancestors."""
        yield from self.a.hashes()
        yield from self.b.hashes()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"a": self.a.to_json(), "b": self.b.to_json()}
