"""Sources of a choice: those that were asked for, or those of the package; and what other people's were trained for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.data import Split
from robust_transfer.errors import CheckpointError, ConfigError, DataError
from robust_transfer.files import expanded
from robust_transfer.foreign.importing import METHOD
from robust_transfer.sources import NATURAL, PACKAGED, load_source
from robust_transfer.sources.fitting import fitting
from robust_transfer.threat import Threat


def gathered(
    asked: Sequence[str | Checkpoint], images: Split, threat: Threat | None = None
) -> tuple[dict[str, Checkpoint], dict[str, str]]:
    """Sources by name, and by name why others cannot be used; raises what the first of these raised if none can.

    ``images`` are the evidence for what a file does not tell. ``threat`` is taken for that of other people's networks which
    do not say it (:func:`says_no_threat`), as ``transfer`` takes it.
    """
    found, unusable, problem = dict[str, Checkpoint](), dict[str, str](), None
    for number, one in enumerate(list(asked) or _at_hand(images)):
        name = f"source {number + 1}" if isinstance(one, Checkpoint) else _called(one, {*found, *unusable})
        try:
            source = one if isinstance(one, Checkpoint) else load_source(one, images=images)
        except (CheckpointError, ConfigError, DataError) as error:
            problem = problem or error
            unusable[name] = str(error)
            continue
        if threat is not None and says_no_threat(source):
            source = replace(
                source, card=replace(source.card, threat=threat, origin={**source.card.origin, "threat": "given"})
            )
        found[name] = source
    if not found:
        raise problem or ConfigError("no source is given")
    return found, unusable


def _called(source: str, others: set[str]) -> str:
    """Name of a source: that of its file or folder, or as it was given; the whole path where another is called the same."""
    name = Path(source).name if expanded(source).exists() else source
    return source if name in others else name


def says_no_threat(source: Checkpoint) -> bool:
    """True for a foreign network whose threat neither its file nor its import states."""
    card = source.card
    return card.method == METHOD and card.threat is None and not card.origin.get("threat")


def _at_hand(images: Split) -> list[str]:
    """Robust sources of the package, the one that fits the images first."""
    best = fitting(images)
    return [best, *(name for name in PACKAGED if name not in (best, NATURAL))]
