"""The one decorator for configuration: a frozen, validated dataclass that refuses unknown keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, dataclass_transform

import yaml
from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass

from robust_transfer.errors import ConfigError
from robust_transfer.registry import unknown

C = TypeVar("C")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def config(cls: type[C]) -> type[C]:
    """Make ``cls`` a frozen dataclass with keyword-only, validated fields; unknown keys and wrong types are refused."""
    settings = ConfigDict(extra="forbid", arbitrary_types_allowed=True, validate_default=True)
    return pydantic_dataclass(frozen=True, kw_only=True, config=settings)(cls)


def build(cls: type[C], settings: Mapping[str, Any], what: str) -> C:
    """``cls(**settings)`` with readable errors. ``what`` names the thing being configured ("strategy 'lwf'")."""
    known = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for key in settings:
        if key not in known:
            raise ConfigError(unknown(f"setting of {what}", key, known) if known else f"{what} has no settings")
    try:
        return cls(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{what}: {where or 'settings'}={first.get('input')!r}: {message}") from None


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """``["rate=0.1", "distance=l2"]`` as a dictionary; values are read as YAML scalars or lists, never evaluated."""
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set takes key=value, not {pair!r}")
        key = key.strip().replace("-", "_")
        if key in settings:
            raise ConfigError(f"--set {key}=... is given twice")
        settings[key] = _scalar(value)
    return settings


def _scalar(text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if isinstance(value, str):  # YAML 1.1 reads 1e-3 as text: it wants 1.0e-3
        try:
            return float(value)
        except ValueError:
            return value
    return value


def as_dict(value: Any) -> Any:
    """A configuration as plain JSON types, for cards, logs and YAML."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_dict(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): as_dict(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_dict(v) for v in value]
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return str(value) if isinstance(value, Path) or hasattr(value, "__str__") else repr(value)
