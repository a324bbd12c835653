"""Report of a study: plots as SVG, and a Markdown page with claims, table and commands."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from robust_transfer.comparison import LEVELS
from robust_transfer.drawing.plots import look, style, svg, tidy
from robust_transfer.environment import command_line, environment
from robust_transfer.files import write_text
from robust_transfer.study.claims import Finding, diverged, judge
from robust_transfer.study.given_up import GIVEN_UP
from robust_transfer.study.recipe import SETTINGS, Filters, Measure, PlotSpec, cells
from robust_transfer.study.work import Workshop

REPORT = "report.md"
STARTS = "starts.jsonl"  # a line for each start of the study that came to its end: command, seconds, cells
BESIDE = {
    "through_source": "through source, %",
    "feature_loss": "feature loss, %",
    "unseen": "unseen, %",
    "feature_drift": "drift",
}
SHOWN = ["source", "task", "strategy", "class_weights", "shots", "seed", "evaluation"]
UNIT = {
    "clean": "clean, %",
    "robust": "robust, %",
    "balanced_clean": "balanced clean, %",
    "balanced_robust": "balanced robust, %",
}


def write_report(workshop: Workshop, table: pd.DataFrame) -> Path:
    """Write the plots and ``report.md`` into the study's folder."""
    recipe, out = workshop.recipe, workshop.store.root
    pictures = []
    for number, spec in enumerate(recipe.plots):
        rows = picked(table, spec.where)
        if not rows.empty and spec.x in rows:
            name = f"{recipe.name}-{number + 1}.svg"
            write_text(out / name, lines(rows, spec))
            pictures.append(f"![{spec.title or recipe.title}]({name})")
    every = cells(recipe)
    findings = [(claim, judge(workshop, claim, every), diverged(workshop, claim, every)) for claim in recipe.claims]
    made = environment()
    facts = [f"{name} {version}" for name, version in made["versions"].items()]
    hardware, threads = made["hardware"], made["hardware"]["threads"]
    text = [
        f"# {recipe.title}",
        f"{recipe.paper}. Recipe `{recipe.name}`{f', scale {recipe.scale}' if recipe.scale else ''}.",
        *([recipe.notes] if recipe.notes else []),
        *([_claims(findings)] if findings else []),
        *pictures,
        *(_filters(recipe.filters) if recipe.filters is not None else []),
        *(_every(table, len(every)) if every else []),
        "## How it was made",
        *_starts(out / STARTS, recipe.name),
        f"{', '.join(facts)}; {hardware['gpu'] or hardware['cpu']}, {threads} thread{'s' * (threads != 1)} a process.",
    ]
    write_text(out / REPORT, "\n\n".join(text) + "\n")
    return out / REPORT


def _starts(path: Path, recipe: str) -> list[str]:
    """Commands that made the cells, and their wall-clock, as far as they came to their end."""
    starts = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    commands = dict.fromkeys(start["command"] for start in starts) or [command_line()]
    told = [f"{start['seconds'] / 60:.1f} minutes ({start['cells']} cells)" for start in starts]
    return [
        "\n".join(f"    {command or f'robust-transfer study {shlex.quote(recipe)}'}" for command in commands),
        *([f"Wall-clock: {', '.join(told)}."] if told else []),
    ]


def _filters(how: Filters) -> list[str]:
    return [
        "## Features under attack",
        "![distances after every block](layers.svg)",
        f"Relative l2 distance after each block, {how.images} images, PGD-{how.attack_steps} at {how.threat}: "
        "`layers.parquet`. The pictures are in `filters.html`; they hold pixels of the data.",
    ]


def _every(table: pd.DataFrame, count: int) -> list[str]:
    told = f"{len(table)} of {count} cells. Brackets are 95 % Wilson intervals."
    lost = table[table["failure"].fillna("").str.startswith(GIVEN_UP)] if len(table) else table
    reasons = [f"{len(some)} of them were {why}." for why, some in lost.groupby("failure")] if len(lost) else []
    return ["## Every cell", " ".join([told, *reasons]), _rows(table) if len(table) else "None is done yet."]


def picked(table: pd.DataFrame, where: dict[str, Any]) -> pd.DataFrame:
    """Rows with figures that have these values in these columns."""
    rows = table[table["failure"].isna()] if len(table) else table
    for key, value in where.items():
        column = rows[key] if key in rows else pd.Series(None, index=rows.index, dtype=object)
        rows = rows[column.isna() if value is None else column == value]
    return rows


def lines(rows: pd.DataFrame, spec: PlotSpec) -> str:
    """Accuracy (or cost) over ``spec.x``, a panel a level: means over seeds as lines, seeds as points; SVG."""
    if spec.otherwise is not None:
        rows = rows.assign(**{spec.x: rows[spec.x].fillna(spec.otherwise)})
    rows = rows[rows[spec.x].notna()]
    with style():
        figure = Figure(figsize=(3.6 * len(spec.levels) + 1.6, 3.4), layout="constrained")
        panels = figure.subplots(1, len(spec.levels), squeeze=False)[0]
        for axes, level in zip(panels, spec.levels, strict=True):
            _panel(axes, rows, spec, level)
        panels[-1].legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        if spec.title:
            figure.suptitle(spec.title)
        return svg(figure)


def _panel(axes: Any, rows: pd.DataFrame, spec: PlotSpec, level: Measure) -> None:
    x, unit = _places(rows, spec.x), 1 if level == "cost" else 100
    if level in LEVELS:
        _constant(axes, x, unit * rows["constant"])
    # over an accuracy, which no two seeds share, a point of a line is what has the same settings
    alike = _settings(rows) if spec.x in LEVELS else x
    for index, (name, some) in enumerate(rows.groupby(spec.by, sort=False, dropna=False)):
        points = pd.DataFrame({"x": x[some.index], "y": unit * some[level]})
        means = points.groupby(alike[some.index]).mean().sort_values("x")
        axes.plot(means["x"], means["y"], lw=1.4, label=str(name), **look(index))
        axes.plot(points["x"], points["y"], ".", color=look(index)["color"], ms=4, alpha=0.6)
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


def _settings(rows: pd.DataFrame) -> pd.Series[int]:
    """Number for each cell of the grid, seeds left aside."""
    names = [name for name in rows if name in SHOWN or str(name).startswith(SETTINGS)]
    return rows.groupby([name for name in names if name != "seed"], dropna=False, sort=False).ngroup()


def _claims(findings: Sequence[tuple[Any, Finding | None, int]]) -> str:
    rows = ["## Claims", "", "| the paper says | measured | |", "|---|---|---|"]
    for claim, finding, lost in findings:
        why = f"training diverged in {lost} of its cells" if lost else "not measured yet"
        shown = f"{finding} | **{finding.verdict}**" if finding is not None else f"{why} | open"
        rows.append(f"| {claim.says} | {shown} |")
    return "\n".join(rows)


def _rows(table: pd.DataFrame) -> str:
    swept = [name for name in table if str(name).startswith(SETTINGS)]
    names = [str(name) for name in [*SHOWN[:3], *swept, *SHOWN[3:]] if table[name].notna().any()]
    beside = [name for name in BESIDE if name in table and table[name].notna().any()]
    levels = list(UNIT)[: 4 if "class_weights" in names and "balanced_clean" in table else 2]
    head = [*(str(name).removeprefix(SETTINGS) for name in names), *(UNIT[level] for level in levels)]
    head += [*(BESIDE[name] for name in beside), "passes", "seconds"]
    rows = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in table.to_dict("records"):
        shown = [_shown(row[name]) for name in names]
        if pd.isna(row["failure"]):
            shown += [_share(row, level) for level in levels]
            shown += [_beside(row, name) for name in beside]
            shown += [f"{row['cost']:.2g}", f"{row['training_seconds']:.0f}"]
        else:
            shown += [
                GIVEN_UP if row["failure"].startswith(GIVEN_UP) else "diverged",
                *[""] * (len(beside) + len(levels) + 1),
            ]
        rows.append(f"| {' | '.join(shown)} |")
    constant = dict.fromkeys(table["constant"].dropna()) if "constant" in table else {}
    if constant:
        rows.append(f"\nConstant classifier: {', '.join(f'{100 * share:.1f} %' for share in constant)}.")
    if beside:
        images, threats = (
            dict.fromkeys(table[name].dropna()) for name in ("transfer_attack_examples", "unseen_threat")
        )
        rows.append(
            f"\nOn {', '.join(f'{count:g}' for count in images)} images each: attacked through the source, adaptively, at "
            f"{', '.join(threats)}, and how far an attacker without labels moves the features, in their lengths."
        )
    return "\n".join(rows)


def _beside(row: dict[Any, Any], name: str) -> str:
    if pd.isna(row[name]):
        return ""
    return f"{row[name]:.2f}" if name == "feature_drift" else f"{100 * row[name]:.0f}"


def _share(row: dict[Any, Any], level: str) -> str:
    value, low, high = (100 * row[name] for name in (level, f"{level}_low", f"{level}_high"))
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _shown(value: Any) -> str:
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
