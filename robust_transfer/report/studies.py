"""Study's folder as plain data: its recipe, table, claims and starts; cells that differ in their seed alone, taken together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from robust_transfer.comparison import LEVELS
from robust_transfer.config import build
from robust_transfer.drawing import Point
from robust_transfer.drawing.figures import pareto
from robust_transfer.errors import ConfigError, DataError
from robust_transfer.evaluation.renamed import RECIPE, translated
from robust_transfer.files import read_table
from robust_transfer.report.gather import Entry, joined, read
from robust_transfer.statistics.intervals import Proportion, over_seeds
from robust_transfer.study.filters import LAYERS, PICTURES
from robust_transfer.study.outcomes import Judged, read_outcomes
from robust_transfer.study.recipe import NAMED, SETTINGS, Recipe
from robust_transfer.study.report import FINDINGS, STARTS, read_starts
from robust_transfer.study.study import STUDY
from robust_transfer.study.table import TABLE, alike, share_of
from robust_transfer.texts import read_json

IN_FULL = 4  # networks of a study
OF_ALL = ("evaluation", "task")  # columns that make cells comparable


@dataclass(frozen=True)
class CellGroup:
    """Cells that differ in their seed alone: the mean of those with figures; ``lost`` of them have none."""

    name: str
    seeds: tuple[int, ...]
    clean: Proportion
    robust: Proportion
    rows: pd.DataFrame
    lost: int

    @property
    def point(self) -> Point:
        """Its place in the plane of both accuracies."""
        return Point(self.name, self.clean, self.robust)

    @property
    def passes(self) -> float:
        """Mean cost, in image passes."""
        return float(self.rows["cost"].mean())


@dataclass(frozen=True)
class Comparison:
    """Groups of cells of one task, evaluated in one way: the same images and the same attack; ``name`` says which."""

    name: str
    constant: float
    threat: str
    attack: str
    n: int
    groups: tuple[CellGroup, ...]


@dataclass(frozen=True)
class Study:
    """Contents of a study's folder. ``cells``: how many the recipe comes to; ``made``: where and how it was last started."""

    folder: Path
    recipe: Recipe
    table: pd.DataFrame
    cells: int
    claims: tuple[dict[str, str], ...]
    starts: tuple[dict[str, Any], ...]
    made: dict[str, Any]

    @property
    def comparisons(self) -> list[Comparison]:
        """Cells with figures, by what they may be compared in."""
        if self.table.empty or "robust" not in self.table:
            return []
        return [
            _comparison(self.table, rows, [str(part) for part in key] if isinstance(key, tuple) else [str(key)])
            for key, rows in self._on_test().groupby(list(OF_ALL), sort=False, dropna=False)
            if rows["failure"].isna().any()
        ]

    def _on_test(self) -> pd.DataFrame:
        """Cells that were evaluated on test images; those on val are what something was chosen by."""
        known = self.recipe.evaluations
        on_val = [name for name in self.table["evaluation"].unique() if name in known and known[name].split == "val"]
        return self.table[~self.table["evaluation"].isin(on_val)]

    def shown(self) -> list[tuple[Entry, str | None]]:
        """Networks that stand on the front of an evaluation, the first seed of each, and where the recipe has their images."""
        found = list[tuple[Entry, str | None]]()
        for one in self.comparisons:
            for place in pareto([group.point for group in one.groups]):
                if len(found) < IN_FULL and "evaluated" in self.table:
                    found += self._entry(one.groups[place])
        return found

    def _entry(self, group: CellGroup) -> Iterator[tuple[Entry, str | None]]:
        row = group.rows.iloc[0]
        folders = [self.folder / "results" / row["result"], self.folder / "evaluations" / row["evaluated"]]
        data = self.recipe.tasks[row["task"]].data
        for entry in joined([read(folder) for folder in folders if folder.is_dir()])[:1]:
            name = f"{group.name}, seed {row['seed']}"
            yield replace(entry, name=name, short=name), self.recipe.data.get(data, data)

    def outcomes(self) -> dict[str, Judged] | None:
        """Outcomes by evaluation, of a study of fronts; None for another one."""
        return read_outcomes(self.folder)

    def features(self) -> tuple[pd.DataFrame, dict[str, Any]] | None:
        """Distances after each block and pictures, of a study of features; None for another one."""
        if not (self.folder / PICTURES).is_file() or not (self.folder / LAYERS).is_file():
            return None
        return read_table(self.folder / LAYERS), _json(self.folder / PICTURES, {})


def read_study(folder: Path) -> Study:
    """Everything that a study's folder holds beside its runs. Raises :class:`DataError` where that cannot be read."""
    try:
        made = read_json(folder / STUDY)
        stored = made.pop("recipe")
        parts = stored["evaluations"].items()
        evaluations = {name: translated(part, RECIPE, name, warn=False) for name, part in parts}
        recipe = build(Recipe, {**stored, "evaluations": evaluations}, "the study's recipe")
        found = _json(folder / FINDINGS, {"cells": None, "claims": []})
        table = read_table(folder / TABLE) if (folder / TABLE).is_file() else pd.DataFrame()
        for name in NAMED:  # a study of an earlier version may lack one
            if len(table) and name not in table:
                table[name] = None
        return Study(
            folder, recipe, table, int(found["cells"] or len(table)), tuple(found["claims"]),
            tuple(read_starts(folder / STARTS)), made,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
        raise DataError(f"the study in {folder} cannot be read: {error}") from None


def _json(path: Path, otherwise: dict[str, Any]) -> dict[str, Any]:
    return dict(read_json(path)) if path.is_file() else otherwise


def _comparison(table: pd.DataFrame, rows: pd.DataFrame, key: Sequence[str]) -> Comparison:
    """Groups of one task and evaluation, named by what sets them apart in the whole table."""
    named = [name for name in NAMED if name not in ("seed", *OF_ALL)]
    names = [str(name) for name in table if name in named or str(name).startswith(SETTINGS)]
    varied = [name for name in names if table[name].nunique(dropna=False) > 1] or ["strategy"]
    groups = list[CellGroup]()
    for _, some in rows.groupby(alike(rows), sort=False):
        done = some[some["failure"].isna()]
        if len(done):
            clean, robust = (over_seeds([share_of(row, level) for row in done.to_dict("records")]) for level in LEVELS)
            seeds = tuple(int(seed) for seed in done["seed"])
            groups.append(CellGroup(_name(done.iloc[0], varied), seeds, clean, robust, done, len(some) - len(done)))
    first = rows[rows["failure"].isna()].iloc[0]
    return Comparison(
        ", ".join(key), float(first["constant"]), str(first["threat"]), str(first["attack"]), int(first["n"]), tuple(groups)
    )  # fmt: skip


def _name(row: pd.Series[Any], varied: Sequence[str]) -> str:
    """Cell in words: what the study varies, and nothing else."""
    told = []
    for name in varied:
        value = row[name]
        if name == "shots":
            told.append("all images" if pd.isna(value) else f"{value:g} a class")
        elif name.startswith(SETTINGS):
            told += [] if pd.isna(value) else [f"{name.removeprefix(SETTINGS)} = {_text(value)}"]
        else:
            told.append(str(value))
    return ", ".join(told)


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
