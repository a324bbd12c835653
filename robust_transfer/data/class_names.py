"""Class names of two sides, matched by name, never by position; names that look alike are distinguished."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor

from robust_transfer.errors import DataError


class HasLabels(Protocol):
    """Labels (int64 ``(n,)``) and the names of their classes, in a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def labels(self) -> Tensor: ...  # noqa: D102
    @property
    def class_names(self) -> tuple[str, ...]: ...  # noqa: D102


Labelled = TypeVar("Labelled", bound=HasLabels)
LISTED = 6  # an error message lists at most so many names of a side


def _visible(name: str) -> str:
    return "".join(c for c in name if c.isspace() or unicodedata.category(c) not in ("Cf", "Cc"))


# Applied in this order; the last one, so that a fold leaves no other normal form behind.
_FOLDS: dict[str, Callable[[str], str]] = {
    "invisible characters": _visible,
    "spaces": lambda name: re.sub(r"\s+", " ", name).strip(),
    "upper and lower case": str.casefold,
    "Unicode normalisation": lambda name: unicodedata.normalize("NFC", name),
}
CASE = "upper and lower case"


def match_names(wanted: Sequence[str], given: Sequence[str], *, wanted_by: str, given_by: str) -> list[int]:
    """Index in ``wanted`` of each name in ``given``: the same names, in any order.

    ``wanted_by`` and ``given_by`` name the two sides in messages ("train", "the model"). Raises DataError for missing
    or repeated names, with the difference; names that only look alike are different names.
    """
    for names, side in ((wanted, wanted_by), (given, given_by)):
        if twice := [name for name, times in Counter(names).items() if times > 1]:
            raise DataError(f"{side} has the class {twice[0]!r} twice: classes need names of their own")
    places = {name: place for place, name in enumerate(wanted)}
    given_set = set(given)
    missing = [name for name in wanted if name not in given_set]
    extra = [name for name in given if name not in places]
    if missing or extra:
        differ = _difference(missing, extra, wanted_by, given_by)
        raise DataError(f"{wanted_by} and {given_by} have different classes ({differ}): give both the same")
    return [places[name] for name in given]


def matched(side: Labelled, names: tuple[str, ...], *, given_by: str) -> tuple[Labelled, list[str]]:
    """``side`` (a dataclass) with its labels in train's order of ``names``, and a note if its own order differs."""
    if side.class_names == names:
        return side, []
    order = match_names(names, side.class_names, wanted_by="train", given_by=given_by)
    note = f"{given_by} lists the classes in another order than train: matched by name"
    return replace(side, labels=torch.tensor(order)[side.labels], class_names=names), [note]


def alike(name: str, others: Iterable[str]) -> tuple[str, str] | None:
    """First of ``others`` that differs from ``name`` only invisibly, and the difference; None without one."""
    folded = _folded(name, _FOLDS)
    close = (other for other in others if other != name and _folded(other, _FOLDS) == folded)
    return next(((other, _only_in(name, other)) for other in close), None)


def lookalikes(names: Sequence[str]) -> list[tuple[str, str, str]]:
    """Pairs of ``names`` with invisible differences, and the difference: ``("cat", "cat ", "spaces")``."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_folded(name, _FOLDS), []).append(name)
    pairs = ((group[0], other) for group in groups.values() for other in group[1:])
    return [(one, other, _only_in(one, other)) for one, other in pairs]


def _difference(missing: list[str], extra: list[str], wanted_by: str, given_by: str) -> str:
    parts = []
    folded = {_folded(name, _FOLDS): name for name in extra}
    close = [(name, folded[key]) for name in missing if (key := _folded(name, _FOLDS)) in folded]
    pairs = [(one, other, _only_in(one, other)) for one, other in close]
    for one, other, kind in pairs[:2]:
        parts.append(f"{one!a} in {wanted_by} and {other!a} in {given_by} differ only in {kind}")
    if len(pairs) > 2:
        parts.append(f"so do {len(pairs) - 2} more")
    paired = {name for pair in pairs for name in pair[:2]}
    for names, side in ((missing, wanted_by), (extra, given_by)):
        if rest := [repr(name) for name in names if name not in paired]:
            more = f" and {len(rest) - LISTED} more" if len(rest) > LISTED else ""
            parts.append(f"only in {side} {', '.join(rest[:LISTED])}{more}")
    return "; ".join(parts)


def _only_in(one: str, other: str) -> str:
    """Smallest set of foldings that makes two names equal."""
    chosen = (some for n in range(1, len(_FOLDS) + 1) for some in itertools.combinations(_FOLDS, n))
    return next(" and ".join(some) for some in chosen if _folded(one, some) == _folded(other, some))


def _folded(name: str, kinds: Iterable[str]) -> str:
    for kind in kinds:
        name = _FOLDS[kind](name)
    return name
