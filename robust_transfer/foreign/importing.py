"""Import of third-party checkpoints: from a file to a classifier whose card records how it was read."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from robust_transfer.checkpoint import HEAD, Card, Checkpoint
from robust_transfer.config import as_dict
from robust_transfer.data import Split
from robust_transfer.environment import command_line, environment
from robust_transfer.foreign.classes import class_names
from robust_transfer.foreign.deciding import decided, evidence
from robust_transfer.foreign.evidence import Decision
from robust_transfer.foreign.finding import Found
from robust_transfer.foreign.fitting import built, features, renamed, with_channels_said
from robust_transfer.foreign.measuring import Candidate

METHOD = "import"


def bring_in(found: Found, images: Split | None = None, *, sha256: str = "", revision: str = "") -> Checkpoint:
    """Checkpoint of the network found; ``images`` are evidence for settings that the file does not contain.

    They count as labelled if the network has as many classes as they have. Raises :class:`CheckpointError` where the
    weights do not fit, or where the evidence is missing or weak.
    """
    readings = found.candidates()
    make = features if _headless(found) else built
    tried = [Candidate(what, partial(make, spec, renamed(found, spec, what))) for what, spec in readings]
    chosen, decision = decided(tried, *evidence(found, readings, images))
    what, spec = readings[tried.index(chosen)]
    classifier = built(spec, renamed(found, spec, what))
    found.contents.release()
    found = replace(found, layout=with_channels_said(found.layout, what))
    names = class_names(found.hints.class_names, spec.num_classes, found.address)
    origin = record(found, decision, sha256, revision)
    if found.published is not None:
        origin["proof"] = found.published.prove(classifier, classes=bool(found.architecture.num_classes))
    card = Card(
        network=spec,
        class_names=names,
        method=METHOD,
        settings={},
        threat=found.hints.threat,
        data={"name": found.address},
        criterion="features only: the file has no head of classes, and this one is 0"
        if _headless(found)
        else "as it was published",
        command=command_line(),
        environment=environment(),
        origin=origin,
    )
    return Checkpoint(classifier.eval(), card)


def record(found: Found, decision: Decision | None, sha256: str = "", revision: str = "") -> dict[str, Any]:
    """Card's record of a file and of how it was read."""
    kind, lay = found.architecture, found.layout
    told: dict[str, Any] = {
        "address": found.address, "sha256": sha256, "revision": revision, "format": found.contents.format,
        "weights": lay.where, "prefix": lay.prefix, "others": lay.others, "family": found.family,
        "inferred": kind.inferred, "alternatives": kind.alternatives, "unused": _unused(found),
        "dropped": lay.dropped, "notes": lay.notes,
        "stated": lay.stated, "refused": found.contents.refused,
        "normalisation": _source_of_normalisation(found), HEAD: "none" if _headless(found) else "",
        "threat": "" if found.hints.threat is None else found.hints.threat_from or "given",
    }  # fmt: skip
    told |= found.zoo
    if found.published is not None:
        said = found.published
        told |= {"published": f"as {said.by} publishes it", "file": said.at, "published_accuracy": said.accuracy}
        told |= {} if found.hints.threat is not None else {"threat": said.threat}
    if decision is not None:
        rows = [
            {**row.what, "accuracy": row.accuracy, "distance": row.distance, "chosen": row.chosen}
            for row in decision.rows
        ]
        told |= {"decided_by": decision.by, "evidence": rows, "evidence_note": decision.note}
    return dict(as_dict({key: value for key, value in told.items() if value not in ("", (), None, {})}))


def _headless(found: Found) -> bool:
    return found.architecture.num_classes == 0


def _source_of_normalisation(found: Found) -> str:
    if found.hints.normalisation is not None:
        return "given"
    if found.published is not None:
        return f"as {found.published.by} publishes it"
    return "stored in the file" if found.layout.normalisation is not None else "of no file: see the evidence"


def _unused(found: Found) -> list[str]:
    """Keys that the forward pass never uses."""
    return [name for name in found.layout.state if name in set(found.architecture.unused)]
