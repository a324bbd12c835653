"""Columns of a table: images, labels and splits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from robust_transfer.data.formats.base import ColumnNames, listed
from robust_transfer.errors import DataError
from robust_transfer.registry import nearest

T = TypeVar("T")
LISTED = 12  # an error message names at most so many columns
_IMAGE_NAMES = ("image", "img")
_LABEL_NAMES = ("labels", "target", "class")
# Names of columns of paths, of labels and of splits, in the spelling of ``_spelt``.
PATHS = (
    "image", "img", "path", "file", "filename", "file_name", "filepath", "file_path", "image_path", "img_path",
    "image_file", "img_file", "image_filename", "image_file_name", "image_name", "img_name",
)  # fmt: skip
LABELS = ("label", *_LABEL_NAMES, "category", "class_name", "classname", "label_name")
SPLITS = ("split", "set", "subset", "partition", "fold")


def choose_columns(features: Mapping[str, Any], wanted: ColumnNames) -> ColumnNames:
    """Names of the image and the label column of a table with HF ``features``, and of its splits where that is given.

    A requested column is taken; else the only candidate, or the one with the usual name ("image", "label"). Raises
    DataError, with the existing columns, for no or several candidates.
    """
    left = _beside_splits(features, wanted)
    image = _given(left, wanted.image) or _only(
        [name for name, feature in left.items() if _holds_images(feature)], _IMAGE_NAMES, left, "image"
    )
    if not _holds_images(features[image]) and not _is_text(features[image]):
        raise DataError(
            f"the column {image!r} does not hold images (encoded bytes or paths): choose another image_column"
        )
    label = _given(left, wanted.label) or _only(
        [name for name, feature in left.items() if _may_be_labels(name, feature)]
        or [name for name in left if _spelt(name) in LABELS],
        ("label",),
        left,
        "label",
    )
    return ColumnNames(image, label, wanted.split)


def holds_paths(features: Mapping[str, Any], image: str | None) -> bool:
    """True where the column of images, asked for or with a usual name, is text and no other holds images themselves."""
    if image is not None:
        return image in features and _is_text(features[image])
    texts = [name for name in paths_of(features) if _is_text(features[name])]
    return bool(texts) and not any(_holds_images(feature) for feature in features.values())


def choose_text_columns(columns: Mapping[str, Sequence[Any]], wanted: ColumnNames) -> ColumnNames:
    """Names of the columns of paths and of labels, by their usual names; as :func:`choose_columns` otherwise.

    Where several may be the labels and say the same, as a number and a name do, the first one of names is taken.
    """
    columns = _beside_splits(columns, wanted)
    image = _given(columns, wanted.image) or _only(paths_of(columns), (), columns, "image")
    if wanted.label is not None:
        return ColumnNames(image, _given(columns, wanted.label), wanted.split)
    candidates = [name for name in labels_of(columns) if name != image]
    if len(candidates) > 1 and _say_the_same([columns[name] for name in candidates]):
        candidates = [next((name for name in candidates if not _numbers(columns[name])), candidates[0])]
    return ColumnNames(image, _only(candidates, ("label",), columns, "label"), wanted.split)


def split_columns(names: Iterable[str]) -> list[str]:
    """Columns named like a column of splits."""
    return _called(names, SPLITS)


def paths_of(names: Iterable[str]) -> list[str]:
    """Columns named like a column of paths."""
    return _called(names, PATHS)


def labels_of(names: Iterable[str]) -> list[str]:
    """Columns named like a column of labels."""
    return _called(names, LABELS)


def _called(names: Iterable[str], usual: Sequence[str]) -> list[str]:
    return [name for name in names if _spelt(name) in usual]


def _spelt(name: str) -> str:
    return re.sub(r"[-. ]+", "_", name.strip()).casefold()


def _say_the_same(columns: Sequence[Sequence[Any]]) -> bool:
    """True if the values of all columns correspond one to one."""
    first = columns[0]
    if any(isinstance(value, list | dict) for column in columns for value in column):
        return False
    kinds = len(set(first))
    return all(len(set(zip(first, other, strict=True))) == len(set(other)) == kinds for other in columns[1:])


def _numbers(column: Sequence[Any]) -> bool:
    return all(isinstance(value, int) or (isinstance(value, str) and value.strip("+-").isdigit()) for value in column)


def class_names(feature: Any) -> tuple[str, ...] | None:
    """Names that a ClassLabel feature of HF datasets holds; None for other features."""
    from datasets import ClassLabel

    return tuple(feature.names) if isinstance(feature, ClassLabel) and feature.names else None


def _given(features: Mapping[str, Any], name: str | None) -> str | None:
    if name is not None and name not in features:
        close = nearest(name, list(features))
        hint = f"did you mean {' or '.join(repr(c) for c in close)}?" if close else "choose one of these"
        raise DataError(f"there is no column {name!r} ({_columns(features)}): {hint}")
    return name


def _beside_splits(columns: Mapping[str, T], wanted: ColumnNames) -> Mapping[str, T]:
    """Columns but the one that is given as that of the splits, which has to be there."""
    split = _given(columns, wanted.split)
    return {name: column for name, column in columns.items() if name != split}


def _only(candidates: list[str], usual: tuple[str, ...], features: Mapping[str, Any], kind: str) -> str:
    for name in usual:
        if name in candidates:
            return name
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise DataError(f"several columns may be the {kind} column, {listed(candidates)}: say which with {kind}_column")
    raise DataError(f"no {kind} column found ({_columns(features)}): say which it is with {kind}_column")


def _columns(features: Mapping[str, Any]) -> str:
    return f"columns: {listed(features, most=LISTED, show=str)}"


def _holds_images(feature: Any) -> bool:
    from datasets import Image

    if isinstance(feature, Image):
        return True
    if isinstance(feature, Mapping):
        return "bytes" in feature
    return _value_type(feature) in ("binary", "large_binary")


def _may_be_labels(name: str, feature: Any) -> bool:
    from datasets import ClassLabel

    return isinstance(feature, ClassLabel) or name == "label" or name.endswith("_label") or name in _LABEL_NAMES


def _is_text(feature: Any) -> bool:
    return _value_type(feature) in ("string", "large_string")


def _value_type(feature: Any) -> str | None:
    from datasets import Value

    return str(feature.dtype) if isinstance(feature, Value) else None
