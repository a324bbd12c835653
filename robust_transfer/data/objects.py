"""Data that Python already holds: lists of files or pictures with labels, arrays, and data sets of PyTorch and torchvision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from robust_transfer.data.arrays import pictures_of
from robust_transfer.data.encoded import Images
from robust_transfer.data.formats.base import Role, StoredDataset, StoredSplit, listed
from robust_transfer.data.formats.disk import Disk
from robust_transfer.data.formats.named_rows import Rows, splits_of
from robust_transfer.data.formats.row_labels import as_column, numbers_or_names
from robust_transfer.data.formats.row_paths import image_files
from robust_transfer.data.formats.split_names import role_of
from robust_transfer.data.formats.tables import Table, stored_splits
from robust_transfer.data.pictures import Pictures, is_picture
from robust_transfer.data.torch_items import items_of
from robust_transfer.errors import ConfigError, DataError

Picture = Image.Image | NDArray[np.uint8] | NDArray[np.uint16] | Tensor
Pairs = Sequence[tuple[str | Path, str | int]] | Sequence[tuple[Picture, str | int]]  # images, each with its label
Arrays = tuple[Tensor | NDArray[np.uint8], Tensor | NDArray[Any] | Sequence[int] | Sequence[str]]  # images, labels
Part = Pairs | Arrays | TorchDataset[Any]  # of one split
Objects = Part | Mapping[str, Part]
HINT = (
    "a name such as 'builtin:digits', a path, a list of (path, label) or (picture, label), a tuple (images, labels), a data "
    "set of PyTorch, or a dict of these by split"
)


@dataclass(frozen=True)
class _Held:
    """Images of one split with their labels; ``class_names`` where the labels count them."""

    images: Images
    labels: Sequence[Any]
    class_names: tuple[str, ...] | None
    called: str
    notes: tuple[str, ...] = ()


def is_object(data: Any) -> bool:
    """True for objects that :func:`stored_objects` reads, or refuses with a specific error."""
    return isinstance(data, Mapping | list | tuple | TorchDataset)


def stored_objects(data: Objects, class_names: Sequence[str] | None = None) -> StoredDataset:
    """Data set from Python objects: one part, which is train, or parts by the names of their splits.

    ``class_names``: names for numeric labels, unless the data has its own. Raises :class:`ConfigError` for other
    objects, :class:`DataError` for unusable data.
    """
    parts = _by_role(data)
    names = _checked(class_names)
    files = [role for role, part in parts.items() if _is_pairs(part) and not _holds_pictures(part, role)]
    if len(files) == len(parts):
        splits, notes = _of_files(parts, names)
        return StoredDataset("a list of files", splits, tuple(notes))
    if files:
        raise ConfigError(f"data has files in {listed(files)} and other objects elsewhere: give all splits in one way")
    held = {role: _held(part, role, names) for role, part in parts.items()}
    values, notes = _labels(held)
    tables = {role: Table(held[role].images, as_column(values[role]), held[role].class_names) for role in held}
    splits, said = stored_splits(tables)
    first = next(iter(held.values()))
    own = dict.fromkeys(note for part in held.values() for note in part.notes)
    return StoredDataset(first.called, splits, (*own, *notes, *said))


def _by_role(data: Objects) -> dict[Role, Part]:
    if not isinstance(data, Mapping):
        return {"train": data}
    parts: dict[Role, Part] = {}
    for name, part in data.items():
        role = role_of(name) if isinstance(name, str) else None
        if role is None or role in parts:
            what = "names no split" if role is None else "names a split for the second time"
            raise ConfigError(
                f"data has the key {name!r}, which {what}: give 'train', 'val' and 'test', or some of them"
            )
        parts[role] = part
    if not parts:
        raise ConfigError(f"data is an empty dict: give {HINT}")
    return parts


def _checked(names: Sequence[str] | None) -> tuple[str, ...] | None:
    if names is None:
        return None
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"class_names are the names of the classes in label order, in a list, not {names!r}")
    return tuple(names)


def _is_pairs(part: Any) -> bool:
    return isinstance(part, list | tuple) and not _is_arrays(part)


def _holds_pictures(part: Any, role: Role) -> bool:
    """True for pairs with pictures; refuses what is no pair, and paths among pictures."""
    kinds = list[bool]()
    for row, pair in enumerate(part):
        called = f"row {row} (from 0) of the list of {role}"
        if (
            not isinstance(pair, tuple | list)
            or len(pair) != 2
            or not (is_picture(pair[0]) or isinstance(pair[0], str | Path))
        ):
            shown = type(pair).__name__ if not isinstance(pair, str) else repr(pair)
            raise ConfigError(f"{called} is {shown}: data is to be {HINT}")
        kinds.append(is_picture(pair[0]))
        if kinds[-1] != kinds[0]:
            one, other = ("a path", "pictures") if kinds[0] else ("a picture", "paths")
            raise ConfigError(f"{called} is {one} where others are {other}: open the files, or save the pictures")
    return bool(kinds) and kinds[0]


def _is_arrays(part: Any) -> bool:
    return isinstance(part, tuple | list) and len(part) == 2 and isinstance(part[0], Tensor | np.ndarray)


def _of_files(parts: Mapping[Role, Any], names: tuple[str, ...] | None) -> tuple[dict[Role, StoredSplit], list[str]]:
    """Splits of lists of ``(path, label)``; paths are relative to the working directory."""
    rows, notes, disk = Rows(), list[str](), Disk()
    for role, pairs in parts.items():
        called = f"the list of {role}"
        files, said = image_files(disk, Path(), called, [str(path) for path, _ in pairs])
        rows.add(files, [_plain(label) for _, label in pairs], [role] * len(files), called)
        notes += said
    splits, said = splits_of(rows, disk, names)
    return splits, [*notes, *said]


def _held(part: Any, role: Role, names: tuple[str, ...] | None) -> _Held:
    if isinstance(part, TorchDataset):
        items, called = items_of(part), type(part).__name__
        return _Held(items.images, _plain_row(items.labels), names or items.class_names, called, items.notes)
    if _is_pairs(part):
        pictures = Pictures([picture for picture, _ in part], f"the list of {role}")
        labels = [_plain(label) for _, label in part]
        return _Held(pictures, labels, names, "a list of pictures", tuple(pictures.notes))
    if not _is_arrays(part):
        raise ConfigError(f"the data of {role} is {type(part).__name__}, and is to be {HINT}")
    images, labels = pictures_of(part[0]), _plain_row(part[1])
    if len(labels) != len(images):
        raise DataError(f"there are {len(images)} images and {len(labels)} labels in {role}: give one each")
    return _Held(images, labels, names, "arrays")


def _labels(held: Mapping[Role, _Held]) -> tuple[dict[Role, list[Any]], list[str]]:
    """Labels of each split; labels without class names are of one kind in all splits."""
    if any(label is None for part in held.values() for label in part.labels):
        raise DataError("an image has no label: give it one, or leave it out")
    bare = [role for role, part in held.items() if part.class_names is None]
    together, notes = numbers_or_names([label for role in bare for label in held[role].labels])
    values = {}
    for role, part in held.items():
        if role in bare:
            values[role], together = together[: len(part.labels)], together[len(part.labels) :]
        else:
            values[role], said = numbers_or_names(part.labels)
            notes += said
    return values, notes


def _plain_row(labels: Any) -> list[Any]:
    if isinstance(labels, Tensor | np.ndarray) and labels.ndim == 1:
        plain: list[Any] = labels.tolist()
        return plain
    return [_plain(label) for label in labels]


def _plain(label: Any) -> Any:
    """Label as a number or a text of Python's own."""
    if isinstance(label, Tensor | np.ndarray | np.generic) and label.ndim == 0:
        return label.item()
    if isinstance(label, Tensor | np.ndarray):
        raise DataError(f"a label has the shape {tuple(label.shape)}: give the class number, not a one-hot row")
    return label
