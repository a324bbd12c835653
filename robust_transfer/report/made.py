"""Provenance of a network and its evaluation: sources, settings, choices, versions, commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from robust_transfer.checkpoint import Card
from robust_transfer.config import as_dict
from robust_transfer.evaluation.corrupted import Corrupted
from robust_transfer.foreign.importing import METHOD
from robust_transfer.provenance import Mixture, Provenance
from robust_transfer.report.figures import Table
from robust_transfer.report.gather import Entry

UNKNOWN = "not known"
CHOICES = 40  # rows of what was tried on val
TOLD = ("val_", "train_")  # figures of a point that say how good it is, not how it was solved


def summary(cards: Sequence[Card]) -> str:
    """Network, or several that differ in their seed alone, in a few words: a folder's name may be a hash."""
    if not cards:
        return ""
    seeds = ", ".join(str(card.seed) for card in cards)
    data = cards[0].data.get("name") or f"data {UNKNOWN}"
    return f"{cards[0].method}, {data}, seed{'s' * (len(cards) > 1)} {seeds}"


def lineage(card: Card) -> list[tuple[int, str]]:
    """Generations from the network back to its first source: depth of each, and a sentence on it."""
    data, weights = card.data.get("name") or UNKNOWN, card.weights_hash[:16] or UNKNOWN
    found = [(0, f"This network: {_by(card.method, data)}, weights file sha256 {weights}")]
    _trace(card.source, 1, found)
    if card.source is None:
        before = "What came before is not known." if card.origin else "Nothing before it: trained from random weights."
        found.append((1, before))
    return found


def _trace(source: Provenance | Mixture | None, depth: int, found: list[tuple[int, str]]) -> None:
    if isinstance(source, Mixture):
        found.append((depth, "Interpolated from two networks:"))
        for part in (source.a, source.b):
            _trace(part, depth + 1, found)
    elif source is not None:
        made = _by(source.method, source.data or "data that is not known")
        found.append((depth, f"From: {made}, weights {source.weights}"))
        _trace(source.source, depth + 1, found)


def _by(method: str, data: str) -> str:
    """A method on its data; of an import, the data is the file."""
    return f"imported from {data}" if method == METHOD else f"{method} on {data}"


def choices(card: Card) -> Table | None:
    """Candidates of the strategy on val, and the selected one; None without any."""
    path = [record for record in card.metrics.get("path") or [] if isinstance(record, dict)]
    if not path:
        return None
    names = [name for name in path[0] if name.startswith(TOLD) and not isinstance(path[0][name], (dict, list))]
    chosen = card.metrics.get("l2")
    rows = [
        (
            _text(record.get("l2")),
            "chosen" if record.get("l2") == chosen else "",
            *(_text(record.get(name)) for name in names),
        )
        for record in path[:CHOICES]
    ]
    return Table(("l2", "", *(name.replace("_", " ") for name in names)), rows)


def network(card: Card) -> Table:
    """Network, preprocessing, data and training as rows of a table."""
    data, spec = card.data, card.network
    rows = [
        ("network", f"{spec.name}, {spec.num_classes} classes, {spec.input_size} x {spec.input_size} pixels"),
        ("images are made by", str(spec.preprocessing.geometry)),
        ("threat is on", spec.preprocessing.threat_pixels),
        ("normalisation", _text(as_dict(spec.preprocessing.normalisation))),
        ("trained for", str(card.threat) if card.threat is not None else _untrained(card)),
        (
            "data",
            f"{data.get('name') or UNKNOWN}: {_count(data.get('train'))} training and {_count(data.get('val'))} val images",
        ),
        ("method", card.method),
        ("settings", _text(card.settings) if card.settings else "none"),
        ("chosen by", card.criterion),
        ("seed", str(card.seed)),
        ("precision", card.precision),
        ("cost", _cost(card)),
        *(("event", event) for event in card.events),
        *(("note", str(note)) for note in data.get("notes") or ()),
        *((f"origin: {name}", _text(value)) for name, value in card.origin.items()),
        *_made("training", card.environment.get("versions"), card.environment.get("hardware")),
        ("commit of training", card.environment.get("commit") or UNKNOWN),
        ("command of training", card.command or UNKNOWN),
    ]
    return Table(("", "of the network"), rows)


def evaluation(entry: Entry) -> Table | None:
    """Settings of the evaluation, and its optional measurements."""
    found = entry.evaluation
    if found is None:
        return None
    after = ", ".join(f"{100 * left:.1f} % after {name}" for name, left in found.by_attack.items())
    rows = [
        ("threat and attack", f"{found.threat}, {found.attack}"),
        ("what stands", after),
        (
            "images",
            f"{len(found.outcomes)} of split {found.split}, {found.input_size} pixels, content hash {found.data_hash}",
        ),
        ("pixels", found.pixels or UNKNOWN),
        *(
            (line.partition("  ")[0], line.partition("  ")[2].strip())
            for line in (found.transferred.lines() if found.transferred else [])
        ),
        *(
            (f"certificate {each.name}", " ".join(line.strip() for line in each.lines()[1:]))
            for each in found.certificates
        ),
        *(
            (
                f"also {each.threat}",
                f"{each.attacked:,} images attacked, {each.passes:,} image passes in {each.seconds:,.1f} s",
            )
            for each in found.further
        ),
        *_corruptions(found.corrupted),
        ("precision of the attack's steps", f"{found.precision}; verdicts are float32"),
        *((name.replace("_", " "), str(count)) for name, count in (found.disagreement or {}).items()),
        ("looked at for red flags", f"{found.red_flag_examples} images"),
        ("cost", f"{found.passes:,} image passes in {found.seconds:,.1f} s"),
        ("seed", str(found.seed)),
        ("network", f"weights {found.model_hash}"),
        *(("note", note) for note in found.notes),
        *_made("evaluation", found.versions, found.hardware),
        ("command of evaluation", found.command or UNKNOWN),
    ]
    return Table(("", "of the evaluation"), rows)


def _corruptions(found: Corrupted | None) -> list[tuple[str, str]]:
    if found is None:
        return []
    by = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    return [
        ("corruptions", f"{found.passes:,} image passes in {found.seconds:,.1f} s, seed {found.seed}, made by {by}")
    ]


def _untrained(card: Card) -> str:
    return str(card.origin.get("threat") or "not stated") if card.origin else "no threat (natural training)"


def _cost(card: Card) -> str:
    cost = card.cost
    if card.origin:
        return "not known: other people's weights"
    crafted = f"{cost.adversarial_examples:,}" if cost.adversarial_examples else "no"
    return f"{cost.passes:,.0f} image passes, {crafted} adversarial examples, {cost.seconds:,.1f} s"


def _count(number: Any) -> str:
    return f"{number:,}" if isinstance(number, int) else "an unknown number of"


def _made(what: str, versions: Mapping[str, str] | None, hardware: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    told = ", ".join(f"{name} {value}" for name, value in (versions or {}).items())
    on = ", ".join(f"{name} {'none' if value is None else value}" for name, value in (hardware or {}).items())
    return [(f"versions of {what}", told or UNKNOWN), (f"hardware of {what}", on or UNKNOWN)]


def _text(value: Any) -> str:
    """Value as text."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} = {_text(each)}" for name, each in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(each) for each in value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return "none" if value is None else str(value)
