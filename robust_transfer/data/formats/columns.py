"""Columns of a table that hold the images and the labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robust_transfer.data.formats.base import listed
from robust_transfer.errors import DataError
from robust_transfer.registry import nearest

LISTED = 12  # an error message names at most so many columns
_IMAGE_NAMES = ("image", "img")
_LABEL_NAMES = ("labels", "target", "class")


def choose_columns(features: Mapping[str, Any], image: str | None, label: str | None) -> tuple[str, str]:
    """Names of the image and the label column of a table with HF ``features``.

    A column that is asked for is taken; else the only candidate, or the one with the usual name ("image", "label").
    Raises DataError, with the columns there are, where that leaves none or several.
    """
    image = _given(features, image) or _only(
        [name for name, feature in features.items() if _holds_images(feature)], _IMAGE_NAMES, features, "image"
    )
    if not _holds_images(features[image]) and _value_type(features[image]) not in ("string", "large_string"):
        raise DataError(
            f"the column {image!r} does not hold images (encoded bytes or paths): choose another image_column"
        )
    label = _given(features, label) or _only(
        [name for name, feature in features.items() if _may_be_labels(name, feature)], ("label",), features, "label"
    )
    return image, label


def _given(features: Mapping[str, Any], name: str | None) -> str | None:
    if name is not None and name not in features:
        close = nearest(name, list(features))
        hint = f"did you mean {' or '.join(repr(c) for c in close)}?" if close else "choose one of these"
        raise DataError(f"there is no column {name!r} ({_columns(features)}): {hint}")
    return name


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


def _value_type(feature: Any) -> str | None:
    from datasets import Value

    return str(feature.dtype) if isinstance(feature, Value) else None
