"""Classes matched by name: the same names in another order are mapped, other names are refused with the difference."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence

from robust_transfer.errors import DataError

INVISIBLE = {"Cf", "Cc", "Zl", "Zp"}  # Unicode categories: zero-width characters, controls, separators
SHOWN = 6  # names of each side in a message


def match_names(wanted: Sequence[str], given: Sequence[str], what: str) -> list[int]:
    """The index in ``wanted`` of each name in ``given``: a permutation, ``[0, 1, ...]`` where the order is the same.

    ``what`` begins the sentence of the :class:`DataError` that is raised where the two sets of names differ:
    "the model and the data". Names that differ only in what is not seen (case, spaces, accents' composition,
    zero-width characters) are shown with their escapes.
    """
    for names in (wanted, given):
        refuse_repeated(names, what)
    if set(wanted) != set(given):
        raise DataError(f"{what} have different classes ({difference(wanted, given)})")
    place = {name: index for index, name in enumerate(wanted)}
    return [place[name] for name in given]


def refuse_repeated(names: Sequence[str], what: str) -> None:
    """Raise :class:`DataError` where a name stands for two classes."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{what}: the class name {twice[0]!r} is given twice, so classes cannot be told apart by name")


def difference(wanted: Sequence[str], given: Sequence[str]) -> str:
    """The names that only one side has, pairs that look alike first."""
    missing = [name for name in wanted if name not in set(given)]
    extra = [name for name in given if name not in set(wanted)]
    alike = {plain(name): name for name in missing}
    pairs = [(alike[plain(name)], name) for name in extra if plain(name) in alike]
    parts = [f"{a!a} and {b!a} differ only in {_how(a, b)}" for a, b in pairs[:2]]
    seen = {name for pair in pairs for name in pair}
    for label, names in (("only in the first", missing), ("only in the second", extra)):
        left = [ascii(name) for name in names if name not in seen]
        more = f" and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
        parts += [f"{label} {', '.join(left[:SHOWN])}{more}"] if left else []
    return "; ".join(parts)


def plain(name: str) -> str:
    """A name without what is not seen: case, composition, spaces and underscores, zero-width characters."""
    composed = unicodedata.normalize("NFKC", name)
    visible = "".join(c for c in composed if unicodedata.category(c) not in INVISIBLE)
    return " ".join(visible.replace("_", " ").split()).casefold()


def _how(a: str, b: str) -> str:
    if unicodedata.normalize("NFC", a) == unicodedata.normalize("NFC", b):
        return "Unicode composition"
    if a.casefold() == b.casefold():
        return "case"
    return "spaces, case or characters that are not seen"
