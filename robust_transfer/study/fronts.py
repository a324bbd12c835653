"""Strategies set against each other by their fronts, from a study's table and outcomes alone: nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd

from robust_transfer.errors import DataError
from robust_transfer.statistics.front_area import Area, front_areas
from robust_transfer.statistics.frontier_gain import Gain, gains
from robust_transfer.statistics.intervals import Proportion, over_seeds
from robust_transfer.statistics.operating_point import OperatingPoint, pareto
from robust_transfer.statistics.resampling import Correctness
from robust_transfer.study.outcomes import Judged
from robust_transfer.study.recipe import SETTINGS, Fronts, Recipe
from robust_transfer.study.table import ALSO, share_of

FIELD = ("source", "task", "class_weights", "shots", "evaluation")  # cells that agree in these are rivals
Verdict = Literal["gains", "loses", "open", "outside", "baseline"]


@dataclass(frozen=True)
class Setting:
    """One setting of a strategy, its seeds taken together.

    ``others``: accuracies of the same images within further threats, and under corruptions, by what they were measured at.
    ``gain``: over the baseline's curve; None for the baseline, and where its seeds have no baseline. ``chosen``: by val.
    ``on_front``: of its own strategy. ``keys``: addresses of its evaluations, a seed each.
    """

    name: str
    seeds: tuple[int, ...]
    keys: tuple[str, ...]
    clean: Proportion
    robust: Proportion
    passes: float
    attacked: str
    others: Mapping[str, Proportion]
    chosen: bool = False
    on_front: bool = False
    gain: Gain | None = None
    is_baseline: bool = False

    @property
    def verdict(self) -> Verdict:
        """Side of 0 that the interval of the gain is on; ``outside`` where no baseline is as robust, so that there is none."""
        if self.is_baseline:
            return "baseline"
        if self.gain is None or not self.gain.known:
            return "outside"
        low, high = self.gain.figure.low, self.gain.figure.high
        return "gains" if low > 0 else "loses" if high < 0 else "open"


@dataclass(frozen=True)
class Rival:
    """Strategy with all its settings, and the area under its front; ``lost``: its cells without figures."""

    name: str
    settings: tuple[Setting, ...]
    area: Area | None
    lost: int

    @property
    def chosen(self) -> Setting | None:
        """Setting that val has chosen."""
        return next((setting for setting in self.settings if setting.chosen), None)


@dataclass(frozen=True)
class Contest:
    """All strategies from one source on one task, evaluated in one way on the same ``n`` images."""

    name: str
    baseline: str
    rivals: tuple[Rival, ...]
    over: tuple[float, float]
    threat: str
    attack: str
    n: int
    constant: float

    @property
    def base(self) -> Rival:
        """Baseline with its settings."""
        return next(rival for rival in self.rivals if rival.name == self.baseline)


def contests(recipe: Recipe, table: pd.DataFrame, outcomes: Mapping[str, Judged]) -> list[Contest]:
    """Every contest of a study that has its baseline, those on val left out."""
    how = recipe.fronts
    if how is None or table.empty or "robust" not in table:
        return []
    tests = {name for name, spec in recipe.evaluations.items() if spec.split == "test"}
    rows = table[table["evaluation"].isin(tests)]
    found = list[Contest]()
    for _, some in rows.groupby(list(FIELD), sort=False, dropna=False):
        if ((some["strategy"] == how.baseline) & some["failure"].isna()).any():
            found.append(_contest(how, some, table, outcomes))
    return found


def _contest(how: Fronts, rows: pd.DataFrame, table: pd.DataFrame, outcomes: Mapping[str, Judged]) -> Contest:
    first = rows[(rows["strategy"] == how.baseline) & rows["failure"].isna()].iloc[0]
    images: Any = outcomes[first["evaluated"]].ids if first["evaluated"] in outcomes else []
    rights = dict[str, Correctness]()
    for key in rows.loc[rows["failure"].isna(), "evaluated"]:
        if key not in outcomes or len(outcomes[key].ids) != len(images) or (outcomes[key].ids != images).any():
            raise DataError(
                f"the outcomes of the evaluation {key} are missing, or of other images: run the study again"
            )
        rights[key] = outcomes[key].correctness()
    settings = {name: _settings(some) for name, some in rows.groupby("strategy", sort=False)}
    base = settings[how.baseline]
    over = how.over or _range(base, rights)
    chosen = _chosen(how, rows, table)
    rivals = list[Rival]()
    measured = _gains(base, [one for name, some in settings.items() if name != how.baseline for one in some], rights)
    for name, some in settings.items():
        front = {*pareto([(one.clean.value, one.robust.value) for one in some])}
        told = tuple(
            replace(
                one,
                on_front=place in front,
                chosen=chosen.get(str(name)) == one.name,
                gain=measured.get(one.keys),
                is_baseline=name == how.baseline,
            )
            for place, one in enumerate(some)
        )
        area = _area(base, some, rights, how.over)
        lost = int((rows["strategy"] == name).sum()) - sum(len(one.keys) for one in some)
        if told:
            rivals.append(Rival(str(name), told, area, lost))
    shots = "all images" if pd.isna(first["shots"]) else f"{first['shots']:g} a class"
    weights = [] if pd.isna(first["class_weights"]) else [str(first["class_weights"])]
    return Contest(
        ", ".join([f"{first['source']} → {first['task']}", shots, *weights, str(first["evaluation"])]),
        how.baseline, tuple(rivals), over,
        str(first["threat"]), str(first["attack"]), int(first["n"]), float(first["constant"]),
    )  # fmt: skip


def _settings(rows: pd.DataFrame) -> list[Setting]:
    """Settings of one strategy that have figures."""
    found = list[Setting]()
    done = rows[rows["failure"].isna()]
    names: Any = done.apply(setting_name, axis=1) if len(done) else []
    for name, some in done.groupby(names, sort=False):
        some = some.sort_values("seed")
        clean, robust = (
            over_seeds([share_of(row, level) for row in some.to_dict("records")]) for level in ("clean", "robust")
        )
        seeds, keys = tuple(map(int, some["seed"])), tuple(map(str, some["evaluated"]))
        cost, attacked = float(some["cost"].mean()), _attacked(some.iloc[0])
        found.append(Setting(str(name), seeds, keys, clean, robust, cost, attacked, _others(some)))
    return found


def _others(rows: pd.DataFrame) -> dict[str, Proportion]:
    """Accuracies of one setting beside that at the contest's threat, its seeds taken together."""
    levels = [name for name in map(str, rows) if name.startswith(ALSO) and "_" not in name] + ["corrupted"]
    there = [level for level in levels if level in rows and rows[level].notna().all()]
    records = rows.to_dict("records")
    return {level.removeprefix(ALSO): over_seeds([share_of(row, level) for row in records]) for level in there}


def setting_name(row: Any) -> str:
    """Swept settings of a row of the table, in words."""
    told = [(str(name).removeprefix(SETTINGS), row[name]) for name in row.index if str(name).startswith(SETTINGS)]
    return (
        ", ".join(f"{name} = {f'{v:g}' if isinstance(v, float) else v}" for name, v in told if not pd.isna(v))
        or "as it is"
    )


def _attacked(row: Any) -> str:
    """Attack on a mixture of two networks, in words; nothing for a single network, whose attack is the contest's."""
    if not row.get("mixture"):
        return ""
    through = "through-parts" in row["attack"]
    return (
        f"a mixture of two networks, {'attacked' if through else 'not attacked'} through each of them ({row['attack']})"
    )


def _range(base: Sequence[Setting], rights: Mapping[str, Correctness]) -> tuple[float, float]:
    """Robust accuracies of the baseline's ends, means over seeds."""
    curves = _by_seed(base, rights).values()
    shares = [[float(one.robust.mean()) for one in curve] for curve in curves]
    low, high = (sum(end(some) for some in shares) / len(shares) for end in (min, max))
    return low, high


def _by_seed(settings: Sequence[Setting], rights: Mapping[str, Correctness]) -> dict[int, list[Correctness]]:
    """Points of a strategy, by seed."""
    found = dict[int, list[Correctness]]()
    for one in settings:
        for seed, key in zip(one.seeds, one.keys, strict=True):
            found.setdefault(seed, []).append(rights[key])
    return found


def _gains(base: Sequence[Setting], settings: Sequence[Setting], rights: Mapping[str, Correctness]) -> dict[Any, Gain]:
    """Gains by the keys of a setting, each seed against its own curve; settings of the same seeds share their resamples."""
    curves, found = _by_seed(base, rights), dict[Any, Gain]()
    for seeds in dict.fromkeys(one.seeds for one in settings):
        alike = [one for one in settings if one.seeds == seeds]
        if all(seed in curves for seed in seeds):
            points = [[rights[key] for key in one.keys] for one in alike]
            made = gains(points, [curves[seed] for seed in seeds])
            found |= {one.keys: gain for one, gain in zip(alike, made, strict=True)}
    return found


def _area(
    base: Sequence[Setting],
    settings: Sequence[Setting],
    rights: Mapping[str, Correctness],
    over: tuple[float, float] | None,
) -> Area | None:
    """Area under a strategy's front, beside the baseline's, of the seeds that both have."""
    first, own = _by_seed(base, rights), _by_seed(settings, rights)
    seeds = sorted({*first} & {*own})
    return front_areas([[points[seed] for seed in seeds] for points in (first, own)], over)[1] if seeds else None


def _chosen(how: Fronts, rows: pd.DataFrame, table: pd.DataFrame) -> dict[str, str]:
    """Setting of each strategy that is best by the rule on val, means over seeds."""
    first = rows[rows["failure"].isna()].iloc[0]
    looks = table[table["evaluation"].isin(how.choose) & table["failure"].isna() & (table["threat"] == first["threat"])]
    for name in FIELD[:-1]:
        looks = looks[looks[name].isna() if pd.isna(first[name]) else looks[name] == first[name]]
    if looks.empty:
        return {}
    means = looks.assign(setting=looks.apply(setting_name, axis=1))
    means = means.groupby(["strategy", "setting"], sort=False)[["clean", "robust"]].mean()
    strategies = dict.fromkeys(means.index.get_level_values(0))
    if how.baseline not in strategies:
        return {}
    most, found = float(means.loc[how.baseline]["robust"].max()), dict[str, str]()
    for strategy in strategies:
        some = means.loc[strategy]
        row, _ = OperatingPoint(keep=how.keep).select(list(zip(some["clean"], some["robust"], strict=True)), most)
        found[strategy] = str(some.index[row])
    return found
