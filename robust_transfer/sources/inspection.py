"""Inspection of a third-party checkpoint: its network, how it was determined, and the evidence, as a page of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from robust_transfer.checkpoint import HEAD
from robust_transfer.data import Split
from robust_transfer.foreign.evidence import UndecidedError
from robust_transfer.foreign.hints import Hints
from robust_transfer.foreign.importing import bring_in, record
from robust_transfer.preprocessing import Geometry

Lines = Iterator[tuple[str, str]]


@dataclass(frozen=True)
class Page:
    """Description of a source. ``card``: as JSON, for a reading that was decided on; ``origin`` alone otherwise.

    ``undecided``: the sentence that says why, and which hints to give.
    """

    name: str
    origin: dict[str, Any]
    card: dict[str, Any] | None
    undecided: str = ""

    def rows(self) -> list[tuple[str, str]]:
        """Labels and texts."""
        card = self.card or {}
        return list(_told(self.name, self.origin, card.get("network"), card.get("threat")))

    def evidence(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows of the table of candidates, the chosen one first; empty for a single candidate."""
        return _evidence(self.origin)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        told = {"source": self.name, "origin": self.origin, "undecided": self.undecided}
        return {**told, **({} if self.card is None else {"card": self.card})}


def inspected(name: str, hints: Hints | None = None, images: Split | None = None) -> Page:
    """Page on a source; an undecided one is described as far as possible.

    Raises the errors of :func:`load_source` for anything else.
    """
    from robust_transfer.sources import SOURCES, load_source
    from robust_transfer.sources.foreign import ForeignKind

    kind = next((made for entry in SOURCES if (made := entry.cls()).takes(name)), None)
    if not isinstance(kind, ForeignKind) or kind.pushed(name) is not None:
        card = load_source(name, hints=hints).card.to_json()
        return Page(name, card["origin"] or {"family": "robust-transfer's own", "normalisation": "on its card"}, card)
    found, got = kind.found(name, hints or Hints())
    try:
        card = bring_in(found, images, sha256=got.sha256, revision=got.revision).card.to_json()
    except UndecidedError as error:
        return Page(name, record(found, None, got.sha256, got.revision), None, str(error))
    return Page(name, card["origin"], card)


def _told(name: str, origin: Mapping[str, Any], network: Mapping[str, Any] | None, threat: str | None) -> Lines:
    """Rows of a label and a text; ``origin`` and ``network`` are a card's (None if undecided)."""
    yield "file", _joined(name, origin.get("format"), _of("revision", origin))
    if origin.get("sha256"):
        yield "sha256", str(origin["sha256"])
    if origin.get("published"):
        figures = ", ".join(f"{what} {value:.1f} %" for what, value in origin.get("published_accuracy", {}).items())
        yield "published", _joined(origin["published"], origin.get("file"), figures)
    yield "weights", _joined(origin.get("weights") or "the whole file", _prefix(origin))
    for label in ("others", "dropped", "unused", "notes"):
        for line in _lines(origin.get(label, ())):
            yield {"others": "also in the file", "unused": "never used", "notes": "note"}.get(label, label), line
    yield "family", str(origin["family"])
    if network is not None:
        settings = ", ".join(f"{key} {value}" for key, value in network["settings"].items())
        yield "network", _joined(network["name"], settings, _classes(origin, network))
        how = network["preprocessing"]
        geometry = Geometry(
            size=how["size"], resize=how["resize"], short=how.get("short"), interpolation=how["interpolation"]
        )
        yield "input", f"{how['size']} pixels: {geometry}"
    for line in origin.get("inferred", ()):
        yield "inferred", str(line)
    if origin.get("alternatives"):
        yield "fits as well", ", ".join(_lines(origin["alternatives"]))
    yield "normalisation", _normalisation(origin, network)
    said = origin.get("threat", "")
    yield (
        "threat",
        f"{threat}{f' ({said})' if said else ''}" if threat else said or "not stated: give it if you know it",
    )
    if origin.get("decided_by"):
        yield "decided by", _joined(origin["decided_by"], origin.get("evidence_note"))
    if origin.get("proof"):
        yield "proof", str(origin["proof"])
    for key, value in dict(origin.get("stated", {})).items():
        yield "stated in the file", f"{key}: {value}"
    if origin.get("refused"):
        yield "not imported", ", ".join(origin["refused"])


def _evidence(origin: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Table of candidates: its header and its rows, the chosen one first; empty for a single candidate."""
    rows = list(origin.get("evidence", ()))
    if len(rows) < 2:
        return [], []
    settings = [key for key in rows[0] if key not in ("accuracy", "distance", "chosen")]
    return [*settings, "accuracy", "distance to the stored statistics", ""], [
        [*(str(row.get(key, "")) for key in settings), _share(row["accuracy"]), _number(row["distance"]),
         "taken" if row["chosen"] else ""]
        for row in rows
    ]  # fmt: skip


def _normalisation(origin: Mapping[str, Any], network: Mapping[str, Any] | None) -> str:
    where = str(origin["normalisation"])
    if network is None:
        return where
    how = network["preprocessing"]["normalisation"]
    values = "of each image" if how["per_image"] else " ".join(
        f"{name} {' '.join(f'{v:.5g}' for v in how[name])}" for name in ("mean", "std")
    )  # fmt: skip
    return f"{values} ({where})"


def _classes(origin: Mapping[str, Any], network: Mapping[str, Any]) -> str:
    if origin.get(HEAD) == "none":
        return "features only: without a head it tells no classes apart, and a transfer gives it one"
    return f"{network['num_classes']} classes"


def _prefix(origin: Mapping[str, Any]) -> str:
    return f"names begin with {origin['prefix']!r}" if origin.get("prefix") else ""


def _of(label: str, origin: Mapping[str, Any]) -> str:
    return f"{label} {origin[label]}" if origin.get(label) else ""


def _lines(value: Any) -> list[str]:
    lines = [str(each) for each in value]
    return lines if len(lines) <= 3 else [*lines[:2], f"... and {len(lines) - 2} more"]


def _joined(*parts: Any) -> str:
    return ", ".join(str(part) for part in parts if part)


def _share(value: Mapping[str, Any] | None) -> str:
    return (
        "" if value is None else f"{100 * value['value']:.1f} % [{100 * value['low']:.1f}, {100 * value['high']:.1f}]"
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
