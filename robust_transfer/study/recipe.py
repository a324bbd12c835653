"""A recipe: what a study compares, as YAML. Read, brought to a scale, and validated before anything runs."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import field, fields
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from robust_transfer.attacks import parse_attack
from robust_transfer.config import build, config, parse_settings
from robust_transfer.errors import ConfigError
from robust_transfer.networks import canonical
from robust_transfer.pretraining import PRETRAINING
from robust_transfer.registry import unknown
from robust_transfer.strategies import STRATEGIES
from robust_transfer.threat import Threat

T = TypeVar("T")
SCALES = ("smoke", "laptop", "paper")
Level = Literal["clean", "robust"]


@config
class Pretrained:
    """A source that the study trains itself, on one of its tasks."""

    task: str
    network: str = "wrn_16_2"
    method: str = "fast"
    threat: str = "linf:8/255"
    input_size: int | None = None
    seed: int = 0
    set: dict[str, Any] = field(default_factory=dict)


@config
class SourceSpec:
    """``use``: the name of a source (bundled, a folder ...); or ``pretrain``: how to make one."""

    use: str | None = None
    pretrain: Pretrained | None = None

    def __post_init__(self) -> None:
        if (self.use is None) == (self.pretrain is None):
            raise ConfigError("a source has either `use` or `pretrain`")


@config
class TaskSpec:
    """``data`` is one of the recipe's data sets; ``classes`` (names or numbers) keeps some of its classes."""

    data: str
    classes: tuple[str | int, ...] | None = None
    val: float | None = None


@config
class StrategySpec:
    """A strategy with settings; those under ``each`` take every value of their lists in turn."""

    strategy: str
    set: dict[str, Any] = field(default_factory=dict)
    each: dict[str, list[Any]] = field(default_factory=dict)


@config
class EvaluationSpec:
    """How results are attacked. ``examples``: a stratified subset of test, the same for every cell.

    On ``checks`` images (0: none) reasons to doubt the figures are looked for.
    """

    threat: str = "linf:8/255"
    attack: str = "pgd-20"
    examples: int | None = None
    checks: int = 0


@config
class Block:
    """One product: every combination of the names in it is a cell. ``shots``: images a class, None for all."""

    source: tuple[str, ...]
    task: tuple[str, ...]
    strategy: tuple[str, ...]
    evaluation: tuple[str, ...]
    shots: tuple[int | None, ...] = (None,)
    seed: tuple[int, ...] = (0,)


@config
class Claim:
    """A sentence of the paper and how it shows in the table: ``level`` of cells ``of``, less that of cells ``less``.

    Cells are picked by column. Without ``less`` it is their mean. It holds where the 95 % interval lies in
    ``[at_least, at_most]``, it fails where it lies outside.
    """

    says: str
    of: dict[str, Any]
    less: dict[str, Any] | None = None
    level: Level = "robust"
    at_least: float | None = None
    at_most: float | None = None


@config
class PlotSpec:
    """Lines over ``x`` (a column), one for each value of ``by``; ``where`` picks rows by column."""

    x: str
    by: str = "strategy"
    levels: tuple[Level, ...] = ("clean", "robust")
    where: dict[str, Any] = field(default_factory=dict)
    log: bool = False
    title: str = ""


@config
class Filters:
    """The features of ``sources`` under attack and as pictures, on images of ``task``.

    ``images`` are attacked (``attack_steps`` of PGD at ``threat``); ``pictures`` of them are rebuilt, and as many features
    maximised, in ``steps`` steps.
    """

    sources: tuple[str, ...]
    task: str
    images: int = 200
    pictures: int = 8
    steps: int = 200
    threat: str = "linf:8/255"
    attack_steps: int = 20

    def __post_init__(self) -> None:
        if min(self.images, self.pictures, self.steps, self.attack_steps) < 1:
            raise ConfigError("filters needs at least one image, picture and step")


@config
class Recipe:
    """What is compared: sources, tasks, strategies and evaluations by name, and the grid over them; or ``filters``."""

    name: str
    title: str
    paper: str
    sources: dict[str, SourceSpec]
    tasks: dict[str, TaskSpec]
    strategies: dict[str, StrategySpec] = field(default_factory=dict)
    evaluations: dict[str, EvaluationSpec] = field(default_factory=dict)
    grid: tuple[Block, ...] = ()
    filters: Filters | None = None
    data: dict[str, str] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    plots: tuple[PlotSpec, ...] = ()
    scale: str = ""
    notes: str = ""


@config
class Cell:
    """One row of the table: names of the recipe, and the settings that ``each`` has chosen."""

    source: str
    task: str
    strategy: str
    shots: int | None
    seed: int
    evaluation: str
    each: dict[str, Any] = field(default_factory=dict)


# ---------------------------------------------------------------- reading


def packaged() -> dict[str, str]:
    """The recipes that come with the package: name to title."""
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
    """The recipe called ``name`` (packaged, or a YAML file) at ``scale`` (by default laptop, where it has scales).

    ``data`` says where its data sets are. ``changes`` are ``path.to.key=value``, the path through mappings and lists.
    Raises :class:`ConfigError` for anything that could not run: unknown keys, names that nothing has, settings that no
    strategy takes.
    """
    raw = _mapping(_text(name), str(name))
    scales = raw.pop("scales", {})
    chosen = scale or ("laptop" if scales else None)
    if chosen is not None:
        if chosen not in scales:
            raise ConfigError(unknown("scale", chosen, list(scales)) if scales else f"{name} has no scales")
        raw = _merged(raw, scales[chosen] or {})
        raw["scale"] = chosen
    for place, value in parse_settings_at(changes).items():
        _put(raw, place, value)
    raw["data"] = {**raw.get("data", {}), **(data or {})}
    recipe = _built(raw)
    _validate(recipe)
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
        return path.read_text(encoding="utf-8")
    if str(name) not in (known := packaged()):
        raise ConfigError(f"{unknown('recipe', str(name), list(known))} (or give a .yaml file)")
    return resources.files(__package__).joinpath("recipes", f"{name}.yaml").read_text(encoding="utf-8")


def _mapping(text: str, what: str) -> dict[str, Any]:
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{what} is not YAML: {' '.join(str(error).split())}") from None
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
            if not key.isdigit() or int(key) >= len(raw):
                raise ConfigError(f"{where} is a list of {len(raw)}: {key!r} is not a place in it (from 0)")
            key = int(key)  # type: ignore[assignment]
        elif not isinstance(raw, dict):
            raise ConfigError(f"{where} is a single value: there is no {key!r} in it")
        if depth == len(keys) - 1:
            raw[key] = value
        else:
            raw = raw.setdefault(key, {}) if isinstance(raw, dict) else raw[int(key)]


def _built(raw: Mapping[str, Any]) -> Recipe:
    """Every part built by itself, so that a mistake is named by its place."""
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
    if missing := [f.name for f in fields(Recipe) if f.name not in made and _required(f)]:
        raise ConfigError(f"the recipe lacks {', '.join(missing)}")
    return build(Recipe, made, "the recipe")


def _part(cls: type[T], part: Any, where: str) -> T:
    if not isinstance(part, Mapping):
        raise ConfigError(f"{where} must be a mapping, not {part!r}")
    if cls is SourceSpec and isinstance(part.get("pretrain"), Mapping):
        part = {**part, "pretrain": _part(Pretrained, part["pretrain"], f"{where}.pretrain")}
    if missing := [f.name for f in fields(cls) if f.name not in part and _required(f)]:  # type: ignore[arg-type]
        raise ConfigError(f"{where} lacks {', '.join(missing)}")
    return build(cls, part, where)


def _required(item: Any) -> bool:
    from dataclasses import MISSING

    return item.default is MISSING and item.default_factory is MISSING


def _as_lists(part: Any) -> Any:
    """A single value of a block stands for a list of one."""
    if not isinstance(part, Mapping):
        return part
    return {key: value if isinstance(value, list) else [value] for key, value in part.items()}


# ---------------------------------------------------------------- validation


def _validate(recipe: Recipe) -> None:
    """Refuse what would only fail later."""
    if not recipe.grid and recipe.filters is None:
        raise ConfigError("the recipe's grid is empty: there is nothing to run")
    if recipe.filters is not None:
        for name in recipe.filters.sources:
            _known(name, recipe.sources, "filters.sources")
        _known(recipe.filters.task, recipe.tasks, "filters.task")
        Threat.parse(recipe.filters.threat)
    for name, source in recipe.sources.items():
        if source.pretrain is not None:
            _known(source.pretrain.task, recipe.tasks, f"sources.{name}.pretrain.task")
            canonical(source.pretrain.network)
            Threat.parse(source.pretrain.threat)
            build(PRETRAINING.get(source.pretrain.method), source.pretrain.set, f"sources.{name}.pretrain.set")
    for name, strategy in recipe.strategies.items():
        for each in swept(strategy):
            where = f"strategies.{name}"
            try:
                STRATEGIES.get(strategy.strategy).from_settings({**strategy.set, **each})
            except ConfigError as error:
                raise type(error)(f"{where}: {error}") from None
    for name, evaluation in recipe.evaluations.items():
        try:
            Threat.parse(evaluation.threat)
            parse_attack(evaluation.attack)
        except ConfigError as error:
            raise type(error)(f"evaluations.{name}: {error}") from None
        if evaluation.examples is not None and evaluation.examples < 1:
            raise ConfigError(f"evaluations.{name}: examples must be at least 1, not {evaluation.examples}")
    for number, block in enumerate(recipe.grid):
        parts: dict[str, Mapping[str, Any]] = {"source": recipe.sources, "task": recipe.tasks}
        parts |= {"strategy": recipe.strategies, "evaluation": recipe.evaluations}
        for key, known in parts.items():
            for name in getattr(block, key):
                _known(name, known, f"grid.{number}.{key}")
        if any(shots is not None and shots < 1 for shots in block.shots) or any(seed < 0 for seed in block.seed):
            raise ConfigError(f"grid.{number}: shots are at least 1, seeds at least 0")
    for name, task in recipe.tasks.items():
        _known(
            task.data, {**recipe.data, "builtin:digits": ""} if ":" in task.data else recipe.data, f"tasks.{name}.data"
        )
    found = cells(recipe)
    for number, claim in enumerate(recipe.claims):
        for which in (claim.of, claim.less or {}):
            if not any(matches(cell, which) for cell in found):
                raise ConfigError(f"claims.{number}: no cell of the grid is {which}")


def _known(name: str, known: Mapping[str, Any], where: str) -> None:
    if name not in known:
        raise ConfigError(f"{where}: {unknown('name', name, list(known)) if known else f'{name!r} is not given'}")


# ---------------------------------------------------------------- the grid


def swept(strategy: StrategySpec) -> list[dict[str, Any]]:
    """Every combination of the settings under ``each``; one empty one where there is none."""
    return [dict(zip(strategy.each, values, strict=True)) for values in product(*strategy.each.values())]


def cells(recipe: Recipe) -> list[Cell]:
    """Every cell of the grid, once, in its order."""
    found: dict[str, Cell] = {}
    for block in recipe.grid:
        for source, task, strategy, shots, seed, evaluation in product(
            block.source, block.task, block.strategy, block.shots, block.seed, block.evaluation
        ):
            for each in swept(recipe.strategies[strategy]):
                cell = Cell(
                    source=source,
                    task=task,
                    strategy=strategy,
                    shots=shots,
                    seed=seed,
                    evaluation=evaluation,
                    each=each,
                )
                found[repr(cell)] = cell
    return list(found.values())


def columns(cell: Cell) -> dict[str, Any]:
    """A cell as columns: its names, and ``set.NAME`` for what ``each`` has chosen."""
    named = {name: getattr(cell, name) for name in ("source", "task", "strategy", "shots", "seed", "evaluation")}
    return {**named, **{f"set.{name}": value for name, value in cell.each.items()}}


def matches(cell: Cell, which: Mapping[str, Any]) -> bool:
    """Whether a cell has these values in these columns."""
    have = columns(cell)
    return all(key in have and have[key] == value for key, value in which.items())
