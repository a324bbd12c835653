"""Validation of a recipe: every name, setting and combination, before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from robust_transfer.attacks import parse_attack
from robust_transfer.comparison import LEVELS
from robust_transfer.errors import ConfigError
from robust_transfer.evaluation import further
from robust_transfer.networks import canonical
from robust_transfer.pretraining import PRETRAINING
from robust_transfer.registry import unknown
from robust_transfer.strategies import STRATEGIES
from robust_transfer.study.recipe import Cell, Fronts, Recipe, cells, columns, matches, result_of, swept
from robust_transfer.threat import Threat


def validate(recipe: Recipe) -> None:
    """Raise :class:`ConfigError`, with its position, for anything that would fail later."""
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
            try:
                method = PRETRAINING.get(source.pretrain.method)
                if method.starts:
                    raise ConfigError(
                        f"{source.pretrain.method} starts from a checkpoint: train it by `pretrain --from`, and `use` it"
                    )
                method.from_settings(source.pretrain.set)
            except ConfigError as error:
                raise type(error)(f"sources.{name}.pretrain.set: {error}") from None
    for name, strategy in recipe.strategies.items():
        if empty := [key for key, values in strategy.each.items() if not values]:
            raise ConfigError(f"strategies.{name}.each.{empty[0]} is empty: it would leave no cell")
        for each in swept(strategy):
            where = f"strategies.{name}"
            try:
                STRATEGIES.get(strategy.strategy).from_settings({**strategy.set, **each})
            except ConfigError as error:
                raise type(error)(f"{where}: {error}") from None
    for name, evaluation in recipe.evaluations.items():
        try:
            further.parse_further(evaluation.also, Threat.parse(evaluation.threat))
            parse_attack(evaluation.attack)
        except ConfigError as error:
            raise type(error)(f"evaluations.{name}: {error}") from None
        if evaluation.examples is not None and evaluation.examples < 1:
            raise ConfigError(f"evaluations.{name}: examples must be at least 1, not {evaluation.examples}")
        if min(evaluation.transfer_attack_examples, evaluation.red_flag_examples) < 0:
            raise ConfigError(
                f"evaluations.{name}: transfer_attack_examples and red_flag_examples are numbers of images, 0 for none"
            )
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
        seeds = []
        for which in (claim.of, claim.less) if claim.less is not None else (claim.of,):
            chosen = [cell.seed for cell in found if matches(cell, which)]
            if not chosen:
                raise ConfigError(f"claims.{number}: no cell of the grid is {which}")
            if len(set(chosen)) < len(chosen):
                raise ConfigError(f"claims.{number}: {which} picks several cells a seed: name more columns")
            seeds.append(sorted(chosen))
        if claim.above is not None and not any(matches(cell, claim.above) for cell in found):
            raise ConfigError(f"claims.{number}: no cell of the grid is {claim.above}")
        if seeds[0] != seeds[-1]:
            raise ConfigError(f"claims.{number} sets the seeds {seeds[0]} against {seeds[-1]}: give both the same")
    if recipe.fronts is not None:
        _check_fronts(recipe, recipe.fronts, found)
    known = {name: None for cell in found for name in columns(cell)}
    for number, plot in enumerate(recipe.plots):
        for name in (plot.by, *plot.where):
            _known(name, known, f"plots.{number}")
        _known(plot.x, {**known, **dict.fromkeys(LEVELS)}, f"plots.{number}")


def _check_fronts(recipe: Recipe, fronts: Fronts, found: Sequence[Cell]) -> None:
    """Refuse a baseline without cells, and a choice on val that some cells could not be part of."""
    _known(fronts.baseline, recipe.strategies, "fronts.baseline")
    if not any(cell.strategy == fronts.baseline for cell in found):
        raise ConfigError(f"fronts.baseline: no cell of the grid is of {fronts.baseline}")
    for name in fronts.choose:
        _known(name, recipe.evaluations, "fronts.choose")
        if recipe.evaluations[name].split != "val":
            raise ConfigError(
                f"fronts.choose: {name} is not an evaluation on val (split: val), and test chooses nothing"
            )
    if not fronts.choose:
        return
    threats = {name: str(Threat.parse(spec.threat)) for name, spec in recipe.evaluations.items()}
    looked_at = {(result_of(cell), threats[cell.evaluation]) for cell in found if cell.evaluation in fronts.choose}
    for cell in found:
        if (result_of(cell), threats[cell.evaluation]) not in looked_at:
            raise ConfigError(
                f"fronts.choose: {cell.strategy} on {cell.task}, evaluated by {cell.evaluation}, has no evaluation on val at "
                f"{threats[cell.evaluation]} among {', '.join(fronts.choose)}"
            )


def _known(name: str, known: Mapping[str, Any], where: str) -> None:
    if name not in known:
        raise ConfigError(f"{where}: {unknown('name', name, list(known)) if known else f'{name!r} is not given'}")
