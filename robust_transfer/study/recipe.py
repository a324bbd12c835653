"""Recipe: the comparisons of a study, and its grid of cells."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Mapping
from dataclasses import field
from itertools import product
from typing import Any, Literal

from robust_transfer.config import config
from robust_transfer.defaults import DEFAULT_THREAT
from robust_transfer.errors import ConfigError
from robust_transfer.statistics.operating_point import OperatingPoint

BALANCED_LEVELS = {"balanced_clean": "clean", "balanced_robust": "robust"}  # each class counts the same in them
Measure = Literal["clean", "robust", "balanced_clean", "balanced_robust", "cost"]
ClassWeights = Literal["balanced"]
NAMED = ("source", "task", "strategy", "class_weights", "shots", "seed", "evaluation")  # columns of a cell
MOST_CELLS = 100_000  # of a recipe's grid: a million minutes and more
SETTINGS = "set."  # begins the names of the others, which `each` has chosen


@config
class Pretrained:
    """Source trained by the study itself, on one of its tasks."""

    task: str
    network: str = "wrn_16_2"
    method: str = "fast"
    threat: str = DEFAULT_THREAT
    input_size: int | None = None
    seed: int = 0
    set: dict[str, Any] = field(default_factory=dict)


@config
class SourceSpec:
    """``use``: the name of a source (bundled, a folder ...); or ``pretrain``: training settings."""

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
    """Strategy with settings; those under ``each`` take every value of their lists in turn."""

    strategy: str
    set: dict[str, Any] = field(default_factory=dict)
    each: dict[str, list[Any]] = field(default_factory=dict)


@config
class EvaluationSpec:
    """Evaluation of results. ``examples``: a stratified subset of test, the same for every cell.

    ``transfer_attack_examples``: number of images for transfer-specific attacks; ``red_flag_examples``: number of
    images for red flags; 0 disables either. ``split``: ``val`` for what is chosen by, instead of test. ``also``: further
    threats, ``norm:eps``, by the same attack on the same images; ``corruptions``: accuracy under common corruptions, too.
    """

    threat: str = DEFAULT_THREAT
    attack: str = "pgd-20"
    examples: int | None = None
    transfer_attack_examples: int = 25
    red_flag_examples: int = 0
    split: Literal["test", "val"] = "test"
    also: tuple[str, ...] = ()
    corruptions: bool = False


@config
class Block:
    """One product: every combination of the names in it is a cell. ``shots``: images a class, None for all.

    ``class_weights``: ``balanced``, so that each class counts the same in training and in what is chosen on val; or None.
    """

    source: tuple[str, ...]
    task: tuple[str, ...]
    strategy: tuple[str, ...]
    evaluation: tuple[str, ...]
    shots: tuple[int | None, ...] = (None,)
    seed: tuple[int, ...] = (0,)
    class_weights: tuple[ClassWeights | None, ...] = (None,)


@config
class Claim:
    """Sentence of the paper and its test on the table, on cells picked by column, one a seed.

    ``level`` of the cells ``of``: its mean; or its difference to the cells ``less``; or, with ``above``, the clean
    accuracy above the whole front that those cells span, at equal robust accuracy. For the level ``cost`` it is image
    passes, and with ``less`` their ratio. The claim holds where the 95 % interval lies in ``[at_least, at_most]``,
    and fails where it lies outside.
    """

    says: str
    of: dict[str, Any]
    less: dict[str, Any] | None = None
    above: dict[str, Any] | None = None
    level: Measure = "robust"
    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        if self.above is not None and self.level in BALANCED_LEVELS:
            raise ConfigError("a front is of plain accuracies: a claim on `above` has no balanced level")
        if self.above is not None and (self.less is not None or self.level == "cost"):
            raise ConfigError("a claim sets its cells against one thing: `less`, or the front `above` which they lie")


@config
class PlotSpec:
    """Lines over ``x`` (a column, or an accuracy), one for each value of ``by``; ``where`` picks rows by column.

    ``otherwise``: position of rows without an ``x``; omitted by default.
    """

    x: str
    by: str = "strategy"
    levels: tuple[Measure, ...] = ("clean", "robust")
    where: dict[str, Any] = field(default_factory=dict)
    log: bool = False
    otherwise: float | None = None
    title: str = ""


@config
class Fronts:
    """Comparison of the grid's strategies by their fronts: of each, all its settings in the plane of both accuracies.

    ``baseline``: the strategy above whose whole curve the others' gains are. ``choose``: evaluations on val, which take one
    setting of each strategy (at every threat their own): the most accurate with at least a share ``keep`` of the most robust
    baseline's robust accuracy. ``over``: the range of robust accuracy of the areas under the fronts; by default the
    baseline's own.
    """

    baseline: str
    choose: tuple[str, ...] = ()
    keep: float = 0.9
    over: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        OperatingPoint(keep=self.keep)
        if self.over is not None and not 0 <= self.over[0] < self.over[1] <= 1:
            raise ConfigError("over is a range of robust accuracy: two shares between 0 and 1, the lower one first")


@config
class Filters:
    """Features of ``sources`` under attack and as pictures, on images of ``task``.

    ``images`` are attacked (``attack_steps`` of PGD at ``threat``); ``pictures`` of them are rebuilt, and as many features
    maximised, in ``steps`` steps.
    """

    sources: tuple[str, ...]
    task: str
    images: int = 200
    pictures: int = 8
    steps: int = 200
    threat: str = DEFAULT_THREAT
    attack_steps: int = 20

    def __post_init__(self) -> None:
        if min(self.images, self.pictures, self.steps, self.attack_steps) < 1:
            raise ConfigError("filters needs at least one image, picture and step")


@config
class Recipe:
    """Recipe: sources, tasks, strategies and evaluations by name, and the grid over them; or ``filters``."""

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
    fronts: Fronts | None = None
    scale: str = ""
    notes: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w[\w .+-]{0,99}", self.name):
            raise ConfigError(
                f"the recipe's name begins the names of files: take letters, digits, - and _, not {reprlib.repr(self.name)}"
            )


@config
class Cell:
    """One row of the table: names from the recipe, and the chosen settings of ``each``."""

    source: str
    task: str
    strategy: str
    shots: int | None
    seed: int
    evaluation: str
    each: dict[str, Any] = field(default_factory=dict)
    class_weights: ClassWeights | None = None


# ---------------------------------------------------------------- the grid


def swept(strategy: StrategySpec) -> list[dict[str, Any]]:
    """Every combination of the settings under ``each``; one empty combination without any.

    Raises :class:`ConfigError` for more than :data:`MOST_CELLS`.
    """
    if _combinations(strategy) > MOST_CELLS:
        raise ConfigError(f"each of {strategy.strategy} has more than {MOST_CELLS:,} combinations: give fewer values")
    return [dict(zip(strategy.each, values, strict=True)) for values in product(*strategy.each.values())]


def cells(recipe: Recipe) -> list[Cell]:
    """Every cell of the grid, once, in its order. Raises :class:`ConfigError` for more than :data:`MOST_CELLS`."""
    if sum(_count(recipe, block) for block in recipe.grid) > MOST_CELLS:
        raise ConfigError(f"the recipe's grid has more than {MOST_CELLS:,} cells: give fewer values")
    found: dict[str, Cell] = {}
    for block in recipe.grid:
        for source, task, strategy, weights, shots, seed, evaluation in product(
            block.source, block.task, block.strategy, block.class_weights, block.shots, block.seed, block.evaluation
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
                    class_weights=weights,
                )
                found[repr(cell)] = cell
    return list(found.values())


def _combinations(strategy: StrategySpec) -> int:
    return math.prod(len(values) for values in strategy.each.values())


def _count(recipe: Recipe, block: Block) -> int:
    """Number of cells of a block, counted without making them."""
    settings = sum(_combinations(recipe.strategies[name]) for name in block.strategy)
    others = block.source, block.task, block.class_weights, block.shots, block.seed, block.evaluation
    return settings * math.prod(map(len, others))


def columns(cell: Cell) -> dict[str, Any]:
    """Cell as columns: its names (:data:`NAMED`), and ``set.NAME`` for the chosen settings of ``each``."""
    named = {name: getattr(cell, name) for name in NAMED}
    return {**named, **{f"{SETTINGS}{name}": value for name, value in cell.each.items()}}


def matches(cell: Cell, which: Mapping[str, Any]) -> bool:
    """True if a cell has these values in these columns."""
    return all(_has(cell, key, value) for key, value in which.items())


def _has(cell: Cell, column: str, value: Any) -> bool:
    if column in NAMED:
        return bool(getattr(cell, column) == value)
    name = column.removeprefix(SETTINGS)
    return name != column and name in cell.each and bool(cell.each[name] == value)


def result_of(cell: Cell, *, seed: bool = True) -> str:
    """Name of what a cell evaluates: the same for cells that differ in their evaluation only (or, without ``seed``, in it)."""
    named = cell.source, cell.task, cell.strategy, cell.class_weights, cell.shots, cell.seed if seed else None
    return repr((*named, cell.each))
