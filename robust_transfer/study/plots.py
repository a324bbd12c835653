"""Plots of a study: accuracies or cost over a setting, means over seeds as lines and every seed as a point."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from robust_transfer.comparison import LEVELS
from robust_transfer.drawing.figures import ENTRY, HEIGHT, WIDTH, Drawing
from robust_transfer.drawing.plots import look, style, svg, tidy
from robust_transfer.study.recipe import SETTINGS, Measure, PlotSpec
from robust_transfer.study.table import alike

SEEDS = 400  # points of seeds in a panel; of more only the means are drawn
SERIES = "{level}-{number}"  # id of the points of a series in its panel


@dataclass(frozen=True)
class Panel:
    """One level of a plot: the drawing, and its points as ``(series, x, seed, value)``."""

    level: Measure
    drawing: Drawing
    points: tuple[tuple[str, str, str, str], ...]


def picked(table: pd.DataFrame, where: dict[str, Any]) -> pd.DataFrame:
    """Rows with figures that have these values in these columns."""
    rows = table[table["failure"].isna()] if len(table) else table
    for key, value in where.items():
        column = rows[key] if key in rows else pd.Series(None, index=rows.index, dtype=object)
        rows = rows[column.isna() if value is None else column == value]
    return rows


def drawable(table: pd.DataFrame, spec: PlotSpec) -> pd.DataFrame | None:
    """Rows of a plot; None where there are none yet."""
    rows = picked(table, spec.where)
    if rows.empty or spec.x not in rows:
        return None
    if spec.otherwise is not None:
        rows = rows.assign(**{spec.x: rows[spec.x].fillna(spec.otherwise)})
    rows = rows[rows[spec.x].notna()]
    return None if rows.empty else rows


def lines(rows: pd.DataFrame, spec: PlotSpec) -> str:
    """Accuracy (or cost) over ``spec.x``, a panel a level side by side, for a file; SVG."""
    with style():
        figure = Figure(figsize=(3.6 * len(spec.levels) + 1.6, 3.4), layout="constrained")
        panels = figure.subplots(1, len(spec.levels), squeeze=False)[0]
        for axes, level in zip(panels, spec.levels, strict=True):
            _panel(axes, rows, spec, level)
        panels[-1].legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        if spec.title:
            figure.suptitle(spec.title)
        return svg(figure)


def panels(rows: pd.DataFrame, spec: PlotSpec) -> Iterator[Panel]:
    """Same panels one by one, each as wide as a phone, for a page."""
    for level in spec.levels:
        with style():
            figure = Figure(layout="constrained")
            axes = figure.subplots()
            _panel(axes, rows, spec, level)
            entries = len(axes.get_legend_handles_labels()[0])
            figure.set_size_inches(WIDTH, HEIGHT + ENTRY * entries)
            figure.legend(frameon=False, loc="outside lower left", fontsize=9)
        words, points = {}, list[tuple[str, str, str, str]]()
        for number, (name, some) in enumerate(_series(rows, spec)):
            told = [_told(row, spec, level, str(name)) for row in some.to_dict("records")]
            words[SERIES.format(level=level, number=number)] = [
                f"{who}, {x}, seed {seed}: {value}" for who, x, seed, value in told
            ]
            points += told
        yield Panel(level, Drawing(figure, words), tuple(points))


def _told(row: dict[Any, Any], spec: PlotSpec, level: Measure, name: str) -> tuple[str, str, str, str]:
    """Point in words."""
    value = f"{row[level]:,.0f} image passes" if level == "cost" else f"{100 * row[level]:.1f} %"
    x = f"{100 * row[spec.x]:.1f} %" if spec.x in LEVELS else _short(row[spec.x])
    return name, f"{spec.x.removeprefix(SETTINGS)} {x}", str(row["seed"]), value


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _series(rows: pd.DataFrame, spec: PlotSpec) -> Iterator[tuple[Any, pd.DataFrame]]:
    yield from rows.groupby(spec.by, sort=False, dropna=False)


def _panel(axes: Any, rows: pd.DataFrame, spec: PlotSpec, level: Measure) -> None:
    x, unit = _places(rows, spec.x), 1 if level == "cost" else 100
    if level in LEVELS:
        _constant(axes, x, unit * rows["constant"])
    # over an accuracy, which no two seeds share, a point of a line is what has the same settings
    same = alike(rows) if spec.x in LEVELS else x
    for index, (name, some) in enumerate(_series(rows, spec)):
        points = pd.DataFrame({"x": x[some.index], "y": unit * some[level]})
        means = points.groupby(same[some.index]).mean().sort_values("x")
        axes.plot(means["x"], means["y"], lw=1.4, label=str(name), **look(index))
        gid = SERIES.format(level=level, number=index)
        if len(rows) <= SEEDS:
            axes.plot(points["x"], points["y"], ".", color=look(index)["color"], ms=4, alpha=0.6, gid=gid)
    numeric = pd.api.types.is_numeric_dtype(rows[spec.x])
    if spec.log and numeric:
        values = sorted(set(x))
        if values[0] > 0:
            axes.set_xscale("log")
        else:
            axes.set_xscale("symlog", linthresh=min((value for value in values if value > 0), default=1.0))
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.minorticks_off()
    if not numeric:
        values = list(dict.fromkeys(rows[spec.x]))
        axes.set_xticks(range(len(values)), [str(value) for value in values], rotation=30, ha="right")
        axes.margins(x=0.12)
    threats = ", ".join(dict.fromkeys(rows["threat"]))
    told = {
        "clean": "clean accuracy, %",
        "robust": f"robust accuracy, % ({threats})",
        "balanced_clean": "balanced clean accuracy, %",
        "balanced_robust": f"balanced robust accuracy, % ({threats})",
        "cost": "cost, forward-equivalent image passes",
    }
    axes.set_xlabel(told.get(spec.x) or spec.x.removeprefix(SETTINGS))
    axes.set_ylabel(told[level])
    if level == "cost":
        axes.set_yscale("log")
    tidy(axes)


def _constant(axes: Any, x: pd.Series[float], shares: pd.Series[float]) -> None:
    """Constant classifier: a line; or, where tasks differ in it, a dash at every place."""
    look: dict[str, Any] = {"color": "#888888", "label": "constant"}
    if shares.nunique() == 1:
        axes.axhline(shares.iloc[0], lw=1, ls="--", **look)
        return
    places = pd.DataFrame({"x": x, "y": shares}).drop_duplicates()
    axes.plot(places["x"], places["y"], ls="none", marker="_", ms=14, **look)


def _places(rows: pd.DataFrame, name: str) -> pd.Series[float]:
    """Coordinates of the rows along ``name``: its number, an accuracy in %, or else the rank among its values."""
    if pd.api.types.is_numeric_dtype(rows[name]):
        return rows[name] * (100 if name in LEVELS else 1)
    places = {value: place for place, value in enumerate(dict.fromkeys(rows[name]))}
    return rows[name].map(places)
