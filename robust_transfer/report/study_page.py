"""Sections of a study: claims, cells with their seeds taken together, the recipe's plots, every cell, how it was made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from robust_transfer.attacks.naming import spoken
from robust_transfer.drawing import Drawing
from robust_transfer.drawing.figures import pareto
from robust_transfer.report import figures
from robust_transfer.report.figures import Shown, Table, shown
from robust_transfer.report.flags import advice
from robust_transfer.report.studies import CellGroup, Comparison, Study
from robust_transfer.report.words import best
from robust_transfer.study import front_tables
from robust_transfer.study.filters import distances_plot
from robust_transfer.study.front_plots import picture
from robust_transfer.study.fronts import contests
from robust_transfer.study.given_up import GIVEN_UP
from robust_transfer.study.plots import drawable, panels
from robust_transfer.study.report import beside_told, cell_table
from robust_transfer.threat import Threat

CELLS = 1000  # rows of the table of every cell; table.parquet has all
GROUPS = 250  # settings of one comparison, those on the front in any case
POINTS = 400  # rows of the numbers of a plot
VERDICTS = {
    "holds": "the 95 % interval lies inside what is claimed",
    "fails": "it lies outside",
    "open": "it lies on both sides, or there is none yet",
}


def sections(study: Study, key: str, *, pictures: bool) -> dict[str, Any]:
    """All that stands on the page on one study, but for the networks that are shown in full."""
    recipe, table, found = study.recipe, study.table, study.comparisons
    lost = table[table["failure"].notna()] if len(table) else table
    return {
        "key": key,
        "name": study.folder.resolve().name,
        "title": recipe.title,
        "paper": f"{recipe.paper}. Recipe {recipe.name}{f', scale {recipe.scale}' if recipe.scale else ''}.",
        "notes": recipe.notes,
        "progress": _progress(study, lost),
        "claims": study.claims,
        "verdicts": VERDICTS,
        "counts": {v: sum(claim["verdict"] == v for claim in study.claims) for v in VERDICTS},
        "comparisons": [_compared(one, f"{key}-{number}", len(found) > 1) for number, one in enumerate(found)],
        "fronts": _fronts(study, key),
        "fronts_explained": front_tables.EXPLAINED,
        "others_explained": front_tables.OTHERS_EXPLAINED,
        "plots": [plot for number, spec in enumerate(recipe.plots) if (plot := _plot(study, number, spec, key))],
        "cost": _cost(found, table, f"{key}-cost"),
        "features": _features(study, f"{key}-layers", pictures=pictures),
        "cells": Table(*cell_table(table.head(CELLS))) if len(table) else None,
        "beside": (beside_told(table) or "") if len(table) else "",
        "left_out": max(0, len(table) - CELLS),
        "made": _made(study),
    }


def _progress(study: Study, lost: pd.DataFrame) -> str:
    if not study.cells:
        return ""
    told = f"{len(study.table)} of {study.cells} cells are made"
    given_up = int(lost["failure"].str.startswith(GIVEN_UP).sum()) if len(lost) else 0
    diverged = len(lost) - given_up
    told += f"; in {diverged} training diverged" if diverged else ""
    told += f"; {given_up} were given up, as workers died of them" if given_up else ""
    return f"{told}." if len(study.table) == study.cells else f"{told}; the same study command goes on with the others."


def _compared(one: Comparison, key: str, several: bool) -> dict[str, Any]:
    """Figure, table and the sentence above them."""
    best_of = pareto([group.point for group in one.groups])
    kept = sorted({*best_of, *range(GROUPS)} & {*range(len(one.groups))})
    groups = [one.groups[place] for place in kept]
    points, labels, front = [group.point for group in groups], [str(place + 1) for place in kept], {*best_of}
    threat = f"{one.threat}, {spoken(one.attack)}"
    return {
        "title": one.name if several else "",
        "what": f"{one.n} test images, {threat}",
        "best": best(points, Threat.parse(one.threat)),
        "figure": figures.compared(points, labels, constant=one.constant, threat=threat, key=key),
        "groups": [
            {
                "number": label,
                "name": group.name,
                "seeds": f"{len(group.seeds)} ({', '.join(map(str, group.seeds))})",
                "lost": group.lost,
                "count": len(group.rows),
                "clean": group.clean,
                "robust": group.robust,
                "passes": group.passes,
                "flags": _flags(group),
                "front": place in front,
            }
            for place, label, group in zip(kept, labels, groups, strict=True)
        ],
        "left_out": len(one.groups) - len(kept),
        "constant": one.constant,
        "flags": _distinct(one.groups),
    }


def _flags(group: CellGroup) -> int:
    return int((group.rows["flags"].fillna("") != "").sum())


def _distinct(groups: Sequence[CellGroup]) -> list[dict[str, Any]]:
    """Red flags of the cells by what they mean, with the number of cells that have each."""
    told = dict[str, dict[str, Any]]()
    for group in groups:
        for joined in group.rows["flags"].fillna(""):
            for flag in filter(None, joined.split("; ")):
                meant = advice(flag)
                told.setdefault(meant.sign or flag, {"flag": flag, "advice": meant, "cells": 0})["cells"] += 1
    return sorted(told.values(), key=lambda one: -one["cells"])


def _fronts(study: Study, key: str) -> list[dict[str, Any]]:
    """Contests of the recipe's strategies: their fronts as a picture, a row a strategy, a row a setting."""
    told = list[dict[str, Any]]()
    for number, contest in enumerate(contests(study.recipe, study.table, study.outcomes() or {})):
        settings = Table(*front_tables.filled(front_tables.SETTINGS, front_tables.setting_rows(contest)))
        figure = shown(
            picture(contest), f"{key}-front{number}", f"Fronts: {contest.name}",
            f"Fronts of {len(contest.rivals)} strategies, clean accuracy to the right, robust upwards; baseline: "
            f"{contest.baseline}.",
            settings,
            f"A line joins the settings on a strategy's own front; bold: the curve of {contest.baseline}. Filled: chosen on "
            "val.",
        )  # fmt: skip
        table = Table(*front_tables.filled(front_tables.RIVALS, front_tables.rival_rows(contest)))
        head, others = front_tables.other_rows(contest)
        told.append(
            {
                "name": contest.name,
                "what": front_tables.told(contest),
                "notes": front_tables.notes(contest),
                "figure": figure,
                "table": table,
                "others": Table(head, others) if others else None,
            }
        )
    return told


def _plot(study: Study, number: int, spec: Any, key: str) -> dict[str, Any] | None:
    rows = drawable(study.table, spec)
    if rows is None:
        return None
    drawn = list[Shown]()
    for panel in panels(rows, spec):
        what = {"clean": "Clean accuracy", "robust": "Robust accuracy", "cost": "Cost"}[panel.level]
        over = spec.x.rpartition(".")[2]
        table = Table(
            (spec.by, over, "seed", what), [(who, x.partition(" ")[2], s, v) for who, x, s, v in panel.points[:POINTS]]
        )
        told = f"{what} over {over}, a line for each {spec.by}: means over seeds, and each seed as a point."
        drawn.append(shown(panel.drawing, f"{key}-plot{number}-{panel.level}", f"{what} over {over}", told, table))
    return {"title": spec.title or study.recipe.title, "figures": drawn}


def _cost(found: Sequence[Comparison], table: pd.DataFrame, key: str) -> Shown | None:
    """Mean cost of each group of cells, once where several evaluations look at it."""
    if not found or "cost" not in table:
        return None
    numbered = len(found) == 1  # numbers are those of the one table
    costs = {
        f"{k}: {group.name}" if numbered else group.name: group.passes
        for one in found
        for k, group in enumerate(one.groups, 1)
    }
    train = [int(n) for n in table["train_images"].dropna().unique()]
    return figures.beside_rival(list(costs.items()), train, key)


def _features(study: Study, key: str, *, pictures: bool) -> dict[str, Any] | None:
    """Features under attack, and as pictures unless the page shall hold none."""
    if (found := study.features()) is None:
        return None
    table, drawn = found
    columns = ("source", "name", "distance", "low", "high")
    rows = [(str(s), str(n), *(f"{value:.3g}" for value in shares)) for s, n, *shares in table[[*columns]].to_numpy()]
    figure = shown(
        Drawing(distances_plot(table)), key, "How far an attack moves what each block computes",
        "Relative distances after each block, a line a source, with a band for the middle 80 % of images.",
        Table(("source", "block", "mean", "10 %", "90 %"), rows),
        f"Length of what an attack adds, over that of what the block computes: PGD of {drawn['how']['attack_steps']} steps at "
        f"{drawn['how']['threat']} on {drawn['how']['images']} test images. Lines are means, bands the middle 80 %.",
    )  # fmt: skip
    return {"figure": figure, "steps": drawn["how"]["steps"], "sources": drawn["sources"] if pictures else None}


def _made(study: Study) -> Table:
    """Commands, wall-clock, versions and hardware."""
    commands = dict.fromkeys(str(start["command"]) for start in study.starts if start.get("command"))
    commands = commands or dict.fromkeys([str(study.made.get("command") or "not known")])
    rows = [("command", command) for command in commands]
    rows += [("took", f"{start['seconds'] / 60:.1f} minutes, {start['cells']} cells") for start in study.starts]
    told = [(name, study.made.get(name) or {}) for name in ("versions", "hardware")]
    rows += [(name, ", ".join(f"{k} {'none' if v is None else v}" for k, v in values.items())) for name, values in told]
    rows += [("precision", str(study.made.get("precision"))), ("commit", str(study.made.get("commit") or "not known"))]
    rows += [(f"source {name}", _source(spec)) for name, spec in study.recipe.sources.items()]
    return Table(("", "of the study"), rows)


def _source(spec: Any) -> str:
    """Source of a recipe in words."""
    if spec.use is not None:
        return str(spec.use)
    how = spec.pretrain
    return f"{how.network} by {how.method} on {how.task}, {how.threat}, seed {how.seed}"
