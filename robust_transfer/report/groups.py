"""Groups of comparable runs: evaluations of the same images under the same attack; and seeds of one configuration."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robust_transfer.comparison import SAME
from robust_transfer.config import as_dict
from robust_transfer.evaluation import Evaluation
from robust_transfer.report.gather import Entry

TOLD = {"data_hash": "images", "input_size": "size of the images"}


@dataclass(frozen=True)
class Seeds:
    """Entries that differ in their seed alone, with mean and spread of clean and robust accuracy.

    A spread is the standard deviation over seeds, in [0, 1].
    """

    entries: tuple[Entry, ...]
    seeds: tuple[int, ...]
    clean: float
    clean_spread: float
    robust: float
    robust_spread: float


@dataclass(frozen=True)
class Group:
    """Entries evaluated on the same images, at the same threat, by the same attack."""

    entries: tuple[Entry, ...]

    @property
    def evaluation(self) -> Evaluation:
        """First evaluation, for fields that all have in common."""
        found = self.entries[0].evaluation
        assert found is not None
        return found

    @property
    def seeds(self) -> list[Seeds]:
        """Entries that are several seeds of one configuration."""
        alike: dict[str, list[Entry]] = {}
        for entry in self.entries:
            if (key := _but_for_the_seed(entry)) is not None:
                alike.setdefault(key, []).append(entry)
        return [_seeds(some) for some in alike.values() if len({_seed(entry) for entry in some}) > 1]


def comparable(entries: Sequence[Entry]) -> list[Group]:
    """Evaluated entries grouped by comparability, in order of first occurrence."""
    found: dict[tuple[object, ...], list[Entry]] = {}
    for entry in entries:
        if entry.evaluation is not None:
            found.setdefault(tuple(getattr(entry.evaluation, name) for name in SAME), []).append(entry)
    return [Group(tuple(some)) for some in found.values()]


def differences(groups: Sequence[Group]) -> list[str]:
    """Names of the differing fields of groups."""
    values = {name: {getattr(group.evaluation, name) for group in groups} for name in SAME}
    return [TOLD.get(name, name) for name, found in values.items() if len(found) > 1]


def _but_for_the_seed(entry: Entry) -> str | None:
    card = entry.card
    if card is None:
        return None
    same = (
        card.method,
        card.settings,
        card.threat,
        card.network,
        card.source,
        card.data.get("name"),
        card.data.get("train"),
    )
    return json.dumps(as_dict(list(same)), sort_keys=True, default=str)


def _seed(entry: Entry) -> int:
    assert entry.card is not None
    return entry.card.seed


def _seeds(entries: Sequence[Entry]) -> Seeds:
    shares = [
        (entry.evaluation.clean_accuracy.value, entry.evaluation.robust_accuracy.value)
        for entry in entries
        if entry.evaluation is not None
    ]
    clean, robust = np.array(shares).T
    return Seeds(
        tuple(entries), tuple(map(_seed, entries)),
        float(clean.mean()), float(clean.std(ddof=1)), float(robust.mean()), float(robust.std(ddof=1)),
    )  # fmt: skip
