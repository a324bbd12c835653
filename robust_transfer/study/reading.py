"""From YAML to a recipe: packaged or a user's, at a scale, with changes, validated."""

from __future__ import annotations

import copy
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from robust_transfer.config import build, parse_settings
from robust_transfer.errors import ConfigError
from robust_transfer.evaluation.renamed import RECIPE, translated
from robust_transfer.registry import unknown
from robust_transfer.study.recipe import (
    Block,
    Claim,
    EvaluationSpec,
    Filters,
    Fronts,
    PlotSpec,
    Pretrained,
    Recipe,
    SourceSpec,
    StrategySpec,
    TaskSpec,
)
from robust_transfer.study.validation import validate
from robust_transfer.texts import MalformedError, from_yaml, read_text

T = TypeVar("T")
SCALES = ("smoke", "laptop", "paper")


def packaged() -> dict[str, str]:
    """Packaged recipes: name to title."""
    found = {}
    for entry in sorted(resources.files(__package__).joinpath("recipes").iterdir(), key=lambda e: e.name):
        if entry.name.endswith(".yaml"):
            found[entry.name.removesuffix(".yaml")] = str(
                _mapping(entry.read_text(encoding="utf-8"), entry.name)["title"]
            )
    return found


def load_recipe(
    name: str | Path, *, scale: str | None = None, data: Mapping[str, str] | None = None, changes: Iterable[str] = ()
) -> Recipe:
    """Recipe called ``name`` (packaged, or a YAML file) at ``scale`` (by default laptop, where it has scales).

    ``data`` gives the locations of its data sets. ``changes`` are ``path.to.key=value``, the path through mappings
    and lists. Raises :class:`ConfigError` for anything that could not run: unknown keys, unknown names, settings that
    a strategy does not take.
    """
    raw = _mapping(_text(name), str(name))
    scales = raw.pop("scales", None) or {}
    for key, part in (("scales", scales), ("data", raw.get("data") or {})):
        if not isinstance(part, dict):
            raise ConfigError(f"the recipe's {key} must be a mapping of names")
    chosen = scale if scale is not None else "laptop" if scales else None
    if chosen is not None:
        if chosen not in scales:
            raise ConfigError(unknown("scale", chosen, list(scales)) if scales else f"{name} has no scales")
        raw = _merged(raw, scales[chosen] or {})
        raw["scale"] = chosen
    for place, value in parse_settings_at(changes).items():
        _put(raw, place, value)
    raw["data"] = {**(raw.get("data") or {}), **(data or {})}
    recipe = _built(raw)
    validate(recipe)
    return recipe


def parse_settings_at(pairs: Iterable[str]) -> dict[str, Any]:
    """``["grid.0.seed=[0, 1]"]`` as a dictionary of paths."""
    found: dict[str, Any] = {}
    for pair in pairs:
        place = pair.partition("=")[0].strip()
        [value] = parse_settings([pair]).values()
        found[place] = value
    return found


def _text(name: str | Path) -> str:
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ConfigError(f"the recipe {path} does not exist")
        try:
            return read_text(path)
        except (OSError, MalformedError) as error:
            raise ConfigError(
                f"the recipe {path} cannot be read ({getattr(error, 'strerror', None) or error})"
            ) from None
    if str(name) not in (known := packaged()):
        raise ConfigError(f"{unknown('recipe', str(name), list(known))} (or give a .yaml file)")
    return resources.files(__package__).joinpath("recipes", f"{name}.yaml").read_text(encoding="utf-8")


def _mapping(text: str, what: str) -> dict[str, Any]:
    try:
        found = from_yaml(text)
    except MalformedError as error:
        raise ConfigError(f"{what} cannot be read ({error}): correct it") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{what} is not a recipe: it must be a mapping with name, title, sources, tasks ...")
    return found


def _merged(base: Any, over: Any) -> Any:
    """``over`` on top of ``base``: mappings are merged, everything else is replaced."""
    if isinstance(base, dict) and isinstance(over, dict):
        return {**base, **{key: _merged(base.get(key), value) for key, value in over.items()}}
    return copy.deepcopy(over)


def _put(raw: Any, place: str, value: Any) -> None:
    keys = place.split(".")
    for depth, key in enumerate(keys):
        where = ".".join(keys[:depth]) or "the recipe"
        if isinstance(raw, list):
            if not (key.isascii() and key.isdigit()) or int(key) >= len(raw):
                raise ConfigError(f"{where} is a list of {len(raw)}: {key!r} is not a place in it (from 0)")
            key = int(key)  # type: ignore[assignment]
        elif not isinstance(raw, dict):
            raise ConfigError(f"{where} is a single value: there is no {key!r} in it")
        if depth == len(keys) - 1:
            raw[key] = value
        else:
            raw = raw.setdefault(key, {}) if isinstance(raw, dict) else raw[int(key)]


def _built(raw: Mapping[str, Any]) -> Recipe:
    """Recipe built part by part, so that an error names its position."""
    named: dict[str, type[Any]] = {
        "sources": SourceSpec,
        "tasks": TaskSpec,
        "strategies": StrategySpec,
        "evaluations": EvaluationSpec,
    }
    listed: dict[str, type[Any]] = {"grid": Block, "claims": Claim, "plots": PlotSpec}
    made = dict(raw)
    for key, cls in named.items():
        if not isinstance(parts := raw.get(key, {}), Mapping):
            raise ConfigError(f"the recipe's {key} must be a mapping of names")
        made[key] = {name: _part(cls, part, f"{key}.{name}") for name, part in parts.items()}
    for key, cls in listed.items():
        if not isinstance(items := raw.get(key, []), list):
            raise ConfigError(f"the recipe's {key} must be a list")
        made[key] = [
            _part(cls, _as_lists(part) if cls is Block else part, f"{key}.{i}") for i, part in enumerate(items)
        ]
    if raw.get("filters") is not None:
        made["filters"] = _part(Filters, raw["filters"], "filters")
    if raw.get("fronts") is not None:
        made["fronts"] = _part(Fronts, raw["fronts"], "fronts")
    if missing := [f.name for f in fields(Recipe) if f.name not in made and _required(f)]:
        raise ConfigError(f"the recipe lacks {', '.join(missing)}")
    return build(Recipe, made, "the recipe")


def _part(cls: type[T], part: Any, where: str) -> T:
    if not isinstance(part, Mapping):
        raise ConfigError(f"{where} must be a mapping, not {reprlib.repr(part)}")
    if cls is SourceSpec and isinstance(part.get("pretrain"), Mapping):
        part = {**part, "pretrain": _part(Pretrained, part["pretrain"], f"{where}.pretrain")}
    if cls is EvaluationSpec:
        part = translated(part, RECIPE, where, warn=True)
    if missing := [f.name for f in fields(cls) if f.name not in part and _required(f)]:  # type: ignore[arg-type]
        raise ConfigError(f"{where} lacks {', '.join(missing)}")
    return build(cls, part, where)


def _required(item: Any) -> bool:
    return item.default is MISSING and item.default_factory is MISSING


def _as_lists(part: Any) -> Any:
    """Single value of a block as a list of one."""
    if not isinstance(part, Mapping):
        return part
    return {key: value if isinstance(value, list) else [value] for key, value in part.items()}
