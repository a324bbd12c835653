"""One decorator for configuration: a frozen, validated dataclass that refuses unknown keys."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import hashlib
import json
import math
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast, dataclass_transform

from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass

from robust_transfer.errors import ConfigError
from robust_transfer.registry import unknown
from robust_transfer.texts import MalformedError, from_yaml

C = TypeVar("C")


_SPOKEN = {"Integral": "a whole number", "Real": "a number", "NoneType": "None", "str": "text", "PathLike": "a path"}


def expect(what: str, value: Any, *kinds: type[Any], hint: str = "") -> None:
    """Raise :class:`ConfigError` unless ``value`` is one of ``kinds``; True and False are numbers only where said.

    ``what`` is the argument's name; ``hint`` ends the sentence with what to give.
    """
    if isinstance(value, kinds) and not (isinstance(value, bool) and bool not in kinds):
        return
    spoken = [_SPOKEN.get(kind.__name__) or _with_article(kind.__name__) for kind in kinds]
    given = f"the class {value.__name__}" if isinstance(value, type) else _with_article(type(value).__name__)
    if value is None or isinstance(value, bool | int | float | str):
        given = reprlib.repr(value)
    raise ConfigError(f"{what} is to be {' or '.join(spoken)}, not {given}{hint and ': ' + hint}")


def _with_article(name: str) -> str:
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


@dataclass_transform(frozen_default=True, kw_only_default=True)
def config(cls: type[C]) -> type[C]:
    """Make ``cls`` a frozen dataclass with keyword-only, validated fields.

    Unknown keys, wrong types and numbers that are not finite are refused with a one-sentence :class:`ConfigError`.
    """
    settings = ConfigDict(extra="forbid", arbitrary_types_allowed=True, validate_default=True)
    made: Any = pydantic_dataclass(frozen=True, kw_only=True, config=settings)(cls)
    construct, names = made.__init__, _fields(made)

    @functools.wraps(construct)
    def readable(self: Any, *args: Any, **values: Any) -> None:
        try:
            construct(self, *args, **values)
        except ValidationError as error:
            raise ConfigError(_sentence(error, cls.__name__, names)) from None
        for name in names:  # after the class's own checks, whose words are better
            if not _finite(value := getattr(self, name)):
                raise ConfigError(f"{cls.__name__}: {name}={value!r}: every number must be finite")

    made.__init__ = readable
    return cast(type[C], made)


def _finite(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(_finite(part) for part in value)
    return not isinstance(value, float) or math.isfinite(value)


def build(cls: type[C], settings: Mapping[str, Any], what: str) -> C:
    """``cls(**settings)`` with readable errors. ``what`` names the thing being configured ("strategy 'lwf'")."""
    known = _fields(cls)
    for key in settings:
        if key not in known:
            raise ConfigError(_unknown_setting(what, str(key), known))
    try:
        return cls(**settings)
    except ConfigError as error:
        prefix = f"{cls.__name__}: "
        message = str(error)
        raise type(error)(
            f"{what}: {message.removeprefix(prefix)}" if message.startswith(prefix) else message
        ) from None


def _fields(cls: type[Any]) -> list[str]:
    return [f.name for f in dataclasses.fields(cls)]


def _unknown_setting(what: str, key: str, known: list[str]) -> str:
    return unknown(f"setting of {what}", key, known) if known else f"{what} has no settings, so {key!r} cannot be set"


def _sentence(error: ValidationError, what: str, known: list[str]) -> str:
    """First error of a validation, in one sentence."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "unexpected_keyword_argument" and len(first["loc"]) == 1:
        return _unknown_setting(what, where, known)
    if first["type"] == "unexpected_positional_argument":
        return f"{what} takes its settings by name: {', '.join(known)}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{what}: {where}={reprlib.repr(first.get('input'))}: {message}" if where else f"{what}: {message}"


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """``["rate=0.1", "distance=l2"]`` as a dictionary; values are read as YAML scalars or lists, never evaluated."""
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key:
            raise ConfigError(f"--set takes key=value, not {pair!r}")
        if key in settings:
            raise ConfigError(f"--set {key}=... is given twice")
        settings[key] = _scalar(value)
    return settings


def _scalar(text: str) -> Any:
    try:
        value = from_yaml(text)
    except MalformedError:
        return text
    if isinstance(value, datetime.date) or (isinstance(value, (int, float)) and ":" in text):
        return text  # YAML 1.1 makes a date of 2020-01-02 and 5400 of 1:30:00
    if isinstance(value, str):  # YAML 1.1 reads 1e-3 as text: it wants 1.0e-3
        try:
            return float(value)
        except ValueError:
            return value
    return value


def as_dict(value: Any) -> Any:
    """Configuration as plain JSON types, for cards, logs and YAML."""
    if hasattr(value, "to_json") and not isinstance(value, type):
        return as_dict(value.to_json())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_dict(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): as_dict(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_dict(v) for v in value]
    if isinstance(value, (str, int, float)) or value is None:
        return value
    if hasattr(value, "item"):  # a scalar of NumPy or PyTorch
        return as_dict(value.item())
    return str(value)


def digest(*parts: Any) -> str:
    """16 hex digits of ``parts`` as JSON: the same in any process, whatever the order of a mapping's keys."""
    text = json.dumps([as_dict(part) for part in parts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def difference(saved: Any, wanted: Any, where: str = "") -> tuple[str, Any, Any] | None:
    """First position (in key order) where two JSON values differ, ``("settings.epochs", 3, 4)``, or None."""
    if isinstance(saved, dict) and isinstance(wanted, dict):
        for key in sorted({*saved, *wanted}):
            path = f"{where}.{key}" if where else str(key)
            found = difference(saved.get(key), wanted.get(key), path)
            if found is not None:
                return found
        return None
    return None if saved == wanted else (where, saved, wanted)
