"""Fronts of several strategies in one plane, and the baseline's curve."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from robust_transfer.drawing.figures import CONSTANT, Drawing, Point, legend, pareto, plane, said
from robust_transfer.drawing.plots import look, style

TALL, COLUMNS = 3.9, 2  # inches of the axes, columns of the legend


def rivals(
    series: Mapping[str, Sequence[Point]], *, baseline: str, chosen: Collection[str], constant: float, threat: str
) -> Drawing:
    """Robust over clean accuracy: every point of every strategy, joined along its front; the ``baseline`` in black and bold.

    Filled: points whose name is in ``chosen``.
    """
    with style():
        figure, axes = plane(threat)
        axes.axhline(100 * constant, **CONSTANT)  # type: ignore[arg-type]
        words = dict[str, list[str]]()
        others = [name for name in series if name != baseline]
        for name, points in series.items():
            how = look(others.index(name)) if name in others else {"color": "#222222", "marker": "o", "mfc": "none"}
            front = [points[row] for row in pareto(points)]
            width = {"lw": 1.0, "alpha": 0.75} if name in others else {"lw": 2.6, "alpha": 0.9, "zorder": 1}
            axes.plot(*_places(front), color=how["color"], **width)  # type: ignore[arg-type]
            gid = f"rival-{len(words)}"
            axes.plot(*_places(points), ls="none", ms=5, label=name, gid=gid, **how)
            axes.plot(
                *_places([p for p in points if p.name in chosen]), ls="none", ms=5, **{**how, "mfc": how["color"]}
            )
            words[gid] = [said(point) for point in points]
        legend(figure, height=TALL, columns=COLUMNS)
        return Drawing(figure, words)


def _places(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [100 * p.clean.value for p in points], [100 * p.robust.value for p in points]
