"""Figures of accuracies, for a page (see :mod:`robust_transfer.drawing.inline`) or, by ``svg``, for a file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robust_transfer.drawing.plots import look, style, tidy
from robust_transfer.statistics import operating_point
from robust_transfer.statistics.intervals import Proportion

HEIGHT, ENTRY = 2.9, 0.21  # inches: of a figure without its legend, and of each entry of that
WIDTH = 3.9  # inches: text of a figure that is as wide as a phone can still be read
CROWD = 8  # points, above which only those on the front have their number beside them
CONSTANT = {"color": "#888888", "lw": 1, "ls": "--", "label": "constant classifier"}


@dataclass(frozen=True)
class Point:
    """One result in the plane of clean against robust accuracy."""

    name: str
    clean: Proportion
    robust: Proportion


@dataclass(frozen=True)
class Drawing:
    """Figure, and the tooltip of each point on the lines that have an id."""

    figure: Figure
    words: dict[str, list[str]] = field(default_factory=dict)


def front(series: Mapping[str, Sequence[Point]], *, chosen: Point, constant: float | None, threat: str) -> Drawing:
    """Robust over clean accuracy, one line per series, the chosen point ringed; ``constant``: None if unknown."""
    with style():
        figure, axes = plane(threat)
        if constant is not None:
            axes.axhline(100 * constant, **CONSTANT)  # type: ignore[arg-type]
        words = {}
        for index, (name, points) in enumerate(series.items()):
            clean, robust = _shares(points)
            axes.plot(clean[:, 0], robust[:, 0], lw=1.2, label=name, gid=f"series-{index}", **look(index))
            axes.vlines(clean[:, 0], robust[:, 1], robust[:, 2], color=look(index)["color"], lw=0.8, alpha=0.6)
            words[f"series-{index}"] = [said(point) for point in points]
        x, y = 100 * chosen.clean.value, 100 * chosen.robust.value
        axes.plot(x, y, "o", ms=16, mfc="none", mec="#222222", mew=1.4, label=f"chosen: {chosen.name}")
        legend(figure)
        return Drawing(figure, words)


def tradeoff(points: Sequence[Point], *, labels: Sequence[str], constant: float, threat: str) -> Drawing:
    """Robust over clean accuracy, a point a result with both intervals, and their Pareto front.

    Of a crowd only the front is labelled.
    """
    with style():
        figure, axes = plane(threat)
        axes.axhline(100 * constant, **CONSTANT)  # type: ignore[arg-type]
        best = [points[row] for row in pareto(points)]
        axes.plot(
            [100 * p.clean.value for p in best],
            [100 * p.robust.value for p in best],
            color="#888888", lw=1.2, label="Pareto front", zorder=1,
        )  # fmt: skip
        clean, robust = _shares(points)
        named = dict[tuple[float, float], list[str]]()
        crowded = len(points) > CROWD
        for row, point in enumerate(points):
            how = look(row) | ({"ms": 4, "alpha": 0.8} if crowded else {"ms": 7})
            if not crowded or point in best:
                named.setdefault((clean[row, 0], robust[row, 0]), []).append(labels[row])
            line = {"color": how["color"], "lw": 1.0, "alpha": 0.25 if crowded else 1.0}
            axes.hlines(robust[row, 0], clean[row, 1], clean[row, 2], **line)
            axes.vlines(clean[row, 0], robust[row, 1], robust[row, 2], **line)
            axes.plot(clean[row, 0], robust[row, 0], ls="none", gid=f"point-{row}", **how)
        for place, names in named.items():
            told = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
            axes.annotate(told, place, xytext=(6, 5), textcoords="offset points", fontweight="bold")
        legend(figure)
        return Drawing(figure, {f"point-{row}": [f"{labels[row]}: {said(p)}"] for row, p in enumerate(points)})


def pareto(points: Sequence[Point]) -> list[int]:
    """Rows that no other point beats in one accuracy and equals at least in the other, by clean accuracy."""
    return operating_point.pareto([(point.clean.value, point.robust.value) for point in points])


def budgets(
    series: Mapping[str, Sequence[tuple[float, str, Proportion]]], *, unit: str, stairs: Collection[str] = ()
) -> Drawing:
    """Accuracy over eps: for each series ``(eps, eps as text, share)``, with intervals.

    Those of ``stairs`` are known everywhere: each share holds from the point before it on, and nothing else does.
    """
    with style():
        figure = Figure(layout="constrained")
        axes, words = figure.subplots(), {}
        for index, (name, levels) in enumerate(series.items()):
            eps, shares = [level[0] for level in levels], [level[2] for level in levels]
            low, high = (100 * np.array([getattr(share, end) for share in shares]) for end in ("low", "high"))
            how = look(index)
            step: dict[str, Any] = {"drawstyle": "steps-pre", "ls": "--"} if name in stairs else {}
            values = [100 * s.value for s in shares]
            axes.plot(eps, values, lw=1.2, gid=f"series-{index}", label=name, **how, **step)
            axes.vlines(eps, low, high, color=how["color"], lw=0.8, alpha=0.7)
            words[f"series-{index}"] = [f"{name}, {text}: {share}" for _, text, share in levels]
        axes.set_ylim(0, 102)
        axes.set_xlabel(unit)
        axes.set_ylabel("accuracy, %")
        tidy(axes)
        legend(figure)
        return Drawing(figure, words)


def histories(panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], *, x: str) -> Drawing:
    """Stacked panels, each of series of ``(x, value)``."""
    with style():
        figure = Figure(figsize=(WIDTH, 2.3 * len(panels) + 0.5), layout="constrained")
        rows, words = figure.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0], {}
        for number, (axes, (title, series)) in enumerate(zip(rows, panels.items(), strict=True)):
            for index, (name, points) in enumerate(series.items()):
                how = look(index) | ({} if len(points) <= 12 else {"marker": None})
                xs, ys = zip(*points, strict=True)
                axes.plot(
                    xs, ys, lw=1.2, ls=("-", "--", ":", "-.")[index % 4], gid=f"{number}-{index}", label=name, **how
                )
                words[f"{number}-{index}"] = [f"{name}: {y:.4g} ({x} {at:.4g})" for at, y in points]
            axes.set_ylabel(title)
            axes.legend(frameon=False, fontsize=8)
            tidy(axes)
        rows[-1].set_xlabel(x)
        return Drawing(figure, words)


def costs(rows: Sequence[tuple[str, float, bool]]) -> Drawing:
    """Bars of image passes on a logarithmic axis: ``(name, passes, measured)``; estimates are hatched."""
    with style():
        figure = Figure(figsize=(WIDTH, 0.42 * len(rows) + 1.1), layout="constrained")
        axes = figure.subplots()
        for place, (_, count, measured) in enumerate(rows):
            estimated = {"color": "none", "edgecolor": look(1)["color"], "hatch": "///"}
            axes.barh(place, count, height=0.6, **({"color": look(0)["color"]} if measured else estimated))
            axes.annotate(f"{count:,.0f}", (count, place), xytext=(4, 0), textcoords="offset points", va="center")
        axes.set_xscale("log")
        passes = [row[1] for row in rows]
        axes.set_xlim(
            10 ** (np.floor(np.log10(min(passes))) - 1), max(passes) * 30
        )  # room for a bar, and for its number
        axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
        axes.invert_yaxis()
        axes.set_xlabel("image passes\nhatched: estimated")
        tidy(axes)
        return Drawing(figure)


def plane(threat: str) -> tuple[Figure, Axes]:
    """Empty plane of clean and robust accuracy."""
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(f"clean accuracy, %\n(robust: {threat})")
    axes.set_ylabel("robust accuracy, %")
    tidy(axes)
    return figure, axes


def _shares(points: Sequence[Point]) -> list[np.ndarray[tuple[int, int], np.dtype[np.float64]]]:
    return [
        100 * np.array([(share.value, share.low, share.high) for share in (getattr(p, level) for p in points)])
        for level in ("clean", "robust")
    ]


def said(point: Point) -> str:
    """Point in words."""
    return f"{point.name}: clean {point.clean}, robust {point.robust}"


def legend(figure: Figure, *, height: float = HEIGHT, columns: int = 1) -> None:
    """Legend under the axes, which are ``height`` inches high, with space of its own."""
    entries = len(figure.axes[0].get_legend_handles_labels()[0])
    figure.set_size_inches(WIDTH, height + ENTRY * -(-entries // columns))
    figure.legend(frameon=False, loc="outside lower left", fontsize=9, ncols=columns)
