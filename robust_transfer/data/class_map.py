"""Labels of a split in another side's order of classes: matched by name, or by the user's mapping."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

from robust_transfer.data import imagenet
from robust_transfer.data.class_names import match_names
from robust_transfer.data.split import Split
from robust_transfer.errors import ConfigError, DataError
from robust_transfer.files import expanded
from robust_transfer.registry import unknown
from robust_transfer.texts import from_json, from_yaml, read_text

ClassMap = str | Path | Mapping[str, str]  # or the file that holds one
SHOWN = 4


def read_class_map(given: ClassMap) -> dict[str, str]:
    """``{name in the data: name in the model}`` from a file or a mapping.

    ``.yaml``, ``.yml`` and ``.json`` hold one mapping, ``.csv`` two columns without a header. Raises
    :class:`ConfigError` for anything else, :class:`DataError` for an unreadable file.
    """
    if isinstance(given, Mapping):
        return _checked(dict(given), "class_map")
    path = expanded(given)
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the class map {path}: {getattr(error, 'strerror', None) or error}") from None
    try:
        if path.suffix.casefold() == ".csv":
            rows = [row for row in csv.reader(text.splitlines()) if row]
            if any(len(row) != 2 for row in rows):
                raise ConfigError(f"{path}: every line of a class map holds two names, in the data and in the model")
            if len({row[0] for row in rows}) < len(rows):
                raise ConfigError(f"{path}: a name of the data stands there twice")
            return _checked(dict(rows), str(path))
        # BaseLoader: names are text, also 1, no and 2024-01-01
        loaded = from_json(text) if path.suffix.casefold() == ".json" else from_yaml(text, yaml.BaseLoader)
    except (ValueError, csv.Error) as error:
        raise DataError(f"the class map {path} cannot be read ({error}): write it again") from None
    return _checked(loaded, str(path))


def in_common(names: Sequence[str], split: Split) -> bool:
    """True if any class of ``split`` is one of ``names``: then the others are reported as differences."""
    if imagenet.is_imagenet(names):
        found = imagenet.known(split.class_names)
        return bool(found.ambiguous) or any(label is not None for label in found.labels)
    return bool(set(split.class_names) & set(names))


def _checked(loaded: Any, where: str) -> dict[str, str]:
    if (
        not isinstance(loaded, dict)
        or not loaded
        or not all(isinstance(n, str) for pair in loaded.items() for n in pair)
    ):
        raise ConfigError(f"{where}: a class map is a mapping from names in the data to names in the model")
    return dict(loaded)


def in_order_of(
    names: Sequence[str], split: Split, class_map: ClassMap | None = None, *, wanted_by: str = "the model"
) -> tuple[Split, list[str]]:
    """``split`` with its labels in the order of ``names``, and sentences on the matching.

    Classes are matched by name, one to one, after ``class_map``, which may leave names out. ImageNet's are recognised
    by any of their names (:mod:`robust_transfer.data.imagenet`). ``names`` may contain further classes: the labels
    are then indices in ``names``. Raises :class:`DataError` for a name of the data with no match (names that only
    look alike are different names) or with several, and for numbered classes of which the data has only a part.
    """
    mapped, said = list(split.class_names), set[str]()
    if class_map is not None:
        chosen = read_class_map(class_map)
        if strangers := [name for name in chosen if name not in mapped]:
            raise DataError(f"the class map: {unknown('class of the data', strangers[0], mapped)}")
        mapped, said = [chosen.get(name, name) for name in mapped], set(chosen.values())
    try:
        mapped = imagenet.renamed(mapped, said) if imagenet.is_imagenet(names) else mapped
        wanted = [name for name in names if name in set(mapped)] if set(mapped) < set(names) else list(names)
        found = match_names(wanted, mapped, wanted_by=wanted_by, given_by="the data")
    except DataError as error:
        hint = "check the class map" if class_map is not None else "or give a class map (--class-map)"
        raise DataError(f"{error}, {hint}") from None
    notes, places = [], [list(names).index(wanted[place]) for place in found]
    if len(wanted) < len(names):
        if all(name.isdigit() for name in mapped) and class_map is None:
            raise DataError(
                f"the data has {len(mapped)} classes that are numbers, and {wanted_by} {len(names)}: numbers do not say "
                "which classes are the same, so give a class map (--class-map)"
            )
        notes.append(f"the data has {len(wanted)} of the {len(names)} classes of {wanted_by}, which are all predicted")
    if tuple(mapped) != split.class_names:
        changed = [(a, b) for a, b in zip(split.class_names, mapped, strict=True) if a != b]
        shown = ", ".join(f"{a!r} is {b!r}" for a, b in changed[:SHOWN])
        more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        notes.append(f"classes of the data are mapped to {wanted_by}'s: {shown}{more}")
    if found != list(range(len(found))):
        notes.append(f"the data has its classes in another order than {wanted_by}: labels are matched by name")
    if not notes:
        return split, []
    labels = torch.tensor(places)[split.labels]
    return replace(split, labels=labels, class_names=tuple(names)), notes
