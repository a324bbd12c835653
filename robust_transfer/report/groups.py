"""Groups of comparable runs: evaluations of the same images under the same attack; and seeds of one configuration."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from robust_transfer.comparison import LEVELS, SAME
from robust_transfer.config import as_dict
from robust_transfer.evaluation import Evaluation
from robust_transfer.report.gather import Entry
from robust_transfer.statistics.intervals import Proportion, over_seeds

TOLD = {"data_hash": "images", "input_size": "size of the images"}


@dataclass(frozen=True)
class Setting:
    """Entries that differ in their seed alone, and their mean accuracies with intervals over images and seeds."""

    entries: tuple[Entry, ...]
    clean: Proportion
    robust: Proportion


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
    def settings(self) -> list[Setting]:
        """Entries, with several seeds of one thing taken together."""
        alike: dict[str, list[Entry]] = {}
        for entry in self.entries:
            key = _but_for_the_seed(entry) or entry.name
            own = any(_seed(other) == _seed(entry) for other in alike.get(key, ()))
            alike.setdefault(f"{key}/{entry.name}" if own else key, []).append(
                entry
            )  # of one seed twice none is a seed more
        return [_setting(some) for some in alike.values()]


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


def _seed(entry: Entry) -> int | None:
    return entry.card.seed if entry.card is not None else None


def _setting(entries: Sequence[Entry]) -> Setting:
    found = [entry.evaluation for entry in entries if entry.evaluation is not None]
    clean, robust = ([getattr(each, f"{level}_accuracy") for each in found] for level in LEVELS)
    return Setting(tuple(entries), over_seeds(clean), over_seeds(robust))
