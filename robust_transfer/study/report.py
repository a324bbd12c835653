"""Report of a study: what the page on it needs and only the study knows, as data; and a Markdown record for a repository."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from robust_transfer.environment import command_line, environment
from robust_transfer.files import write_json, write_text
from robust_transfer.shown import in_markdown
from robust_transfer.study import front_tables
from robust_transfer.study.claims import Finding, diverged, judge
from robust_transfer.study.front_plots import picture_file
from robust_transfer.study.fronts import Contest, contests
from robust_transfer.study.given_up import GIVEN_UP
from robust_transfer.study.outcomes import read_outcomes
from robust_transfer.study.plots import drawable, lines
from robust_transfer.study.recipe import NAMED, SETTINGS, Claim, Filters, cells
from robust_transfer.study.work import Workshop
from robust_transfer.texts import MalformedError, from_json

REPORT, FINDINGS = "report.md", "findings.json"
STARTS = "starts.jsonl"  # a line for each start of the study that came to its end: command, seconds, cells
BESIDE = {
    "through_source": "through source, %",
    "feature_loss": "feature loss, %",
    "through_parts": "through parts, %",
    "unseen": "unseen, %",
    "feature_drift": "drift",
}
UNIT = {
    "clean": "clean, %",
    "robust": "robust, %",
    "balanced_clean": "balanced clean, %",
    "balanced_robust": "balanced robust, %",
}


def write_report(workshop: Workshop, table: pd.DataFrame) -> Path:
    """Write the plots, ``findings.json`` and ``report.md`` into the study's folder."""
    recipe, out = workshop.recipe, workshop.store.root
    pictures = []
    for number, spec in enumerate(recipe.plots):
        if (rows := drawable(table, spec)) is not None:
            name = f"{recipe.name}-{number + 1}.svg"
            write_text(out / name, lines(rows, spec))
            pictures.append(f"![{in_markdown(spec.title or recipe.title)}]({quote(name)})")
    every = cells(recipe)
    rivals = _fronts(out, contests(recipe, table, read_outcomes(out) or {}))
    findings = [
        _told(claim, judge(workshop, claim, every), diverged(workshop, claim, every)) for claim in recipe.claims
    ]
    write_json(out / FINDINGS, {"cells": len(every), "claims": findings})
    made = environment()
    facts = [f"{name} {version}" for name, version in made["versions"].items()]
    hardware, threads = made["hardware"], made["hardware"]["threads"]
    text = [
        f"# {in_markdown(recipe.title)}",
        f"{in_markdown(recipe.paper)}. Recipe `{recipe.name}`{f', scale {in_markdown(recipe.scale)}' if recipe.scale else ''}.",
        *([in_markdown(recipe.notes)] if recipe.notes else []),
        *([_claims(findings)] if findings else []),
        *pictures,
        *rivals,
        *(_filters(recipe.filters) if recipe.filters is not None else []),
        *(_every(table, len(every)) if every else []),
        "## How it was made",
        *_starts(out / STARTS, recipe.name),
        f"{', '.join(facts)}; {hardware['gpu'] or hardware['cpu']}, {threads} thread{'s' * (threads != 1)} a process.",
    ]
    write_text(out / REPORT, "\n\n".join(text) + "\n")
    return out / REPORT


def _fronts(out: Path, found: Sequence[Contest]) -> list[str]:
    """Contests with their pictures, as parts of the record; writes the pictures."""
    parts = ["## Which strategy when", front_tables.EXPLAINED] if found else []
    for number, contest in enumerate(found, 1):
        name = f"fronts-{number}.svg"
        write_text(out / name, picture_file(contest))
        parts += [f"### {in_markdown(contest.name)}", in_markdown(front_tables.told(contest))]
        parts += [f"![fronts of {in_markdown(contest.name)}]({name})"]
        rivals = front_tables.filled(front_tables.RIVALS, front_tables.rival_rows(contest))
        parts += [_grid(*rivals), *front_tables.notes(contest)]
        head, others = front_tables.other_rows(contest)
        parts += [front_tables.OTHERS_EXPLAINED, _grid(head, others)] if others else []
        parts += [_grid(*front_tables.filled(front_tables.SETTINGS, front_tables.setting_rows(contest)))]
    return parts


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(in_markdown, line))} |" for line in lines)


def _told(claim: Claim, finding: Finding | None, lost: int) -> dict[str, str]:
    """Claim, what was measured and the verdict, in words."""
    if finding is not None:
        return {"says": claim.says, "measured": str(finding), "verdict": finding.verdict}
    why = f"training diverged in {lost} of its cells" if lost else "not measured yet"
    return {"says": claim.says, "measured": why, "verdict": "open"}


def read_starts(path: Path) -> list[dict[str, Any]]:
    """Starts of a study; a line that was cut short is left out."""
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []:
        with suppress(MalformedError):
            found.append(from_json(line))
    return [start for start in found if isinstance(start, dict)]


def _starts(path: Path, recipe: str) -> list[str]:
    """Commands that made the cells, and their wall-clock, as far as they came to their end."""
    starts = read_starts(path)
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
        "`layers.parquet`. The pictures stand in `report.html`; they hold pixels of the data.",
    ]


def _every(table: pd.DataFrame, count: int) -> list[str]:
    told = f"{len(table)} of {count} cells. Brackets are 95 % Wilson intervals."
    lost = table[table["failure"].fillna("").str.startswith(GIVEN_UP)] if len(table) else table
    reasons = [f"{len(some)} of them were {why}." for why, some in lost.groupby("failure")] if len(lost) else []
    return ["## Every cell", " ".join([told, *reasons]), _rows(table) if len(table) else "None is done yet."]


def _claims(findings: Sequence[dict[str, str]]) -> str:
    head = ["## Claims", "", "| the paper says | measured | |", "|---|---|---|"]
    return "\n".join(
        [*head, *(f"| {in_markdown(f['says'])} | {f['measured']} | **{f['verdict']}** |" for f in findings)]
    )


def _rows(table: pd.DataFrame) -> str:
    head, cells = cell_table(table)
    rows = [_grid(head, cells)]
    constant = dict.fromkeys(table["constant"].dropna()) if "constant" in table else {}
    if constant:
        rows.append(f"\nConstant classifier: {', '.join(f'{100 * share:.1f} %' for share in constant)}.")
    if (told := beside_told(table)) is not None:
        rows.append(f"\n{told}")
    return "\n".join(rows)


def cell_table(table: pd.DataFrame) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows of every cell, as text; columns in which nothing stands are left out."""
    swept = [name for name in table if str(name).startswith(SETTINGS)]
    names = [str(name) for name in [*NAMED[:3], *swept, *NAMED[3:]] if table[name].notna().any()]
    beside = [name for name in BESIDE if name in table and table[name].notna().any()]
    levels = list(UNIT)[: 4 if "class_weights" in names and "balanced_clean" in table else 2]
    head = [*(str(name).removeprefix(SETTINGS) for name in names), *(UNIT[level] for level in levels)]
    head += [*(BESIDE[name] for name in beside), "passes", "seconds"]
    rows = []
    for row in table.to_dict("records"):
        shown = [_shown(row[name]) for name in names]
        if pd.isna(row["failure"]):
            shown += [_share(row, level) for level in levels]
            shown += [_beside(row, name) for name in beside]
            shown += [f"{row['cost']:.2g}", f"{row['training_seconds']:.0f}"]
        else:
            shown += [GIVEN_UP if row["failure"].startswith(GIVEN_UP) else "diverged"]
            shown += [""] * (len(beside) + len(levels) + 1)
        rows.append(tuple(shown))
    return tuple(head), rows


def beside_told(table: pd.DataFrame) -> str | None:
    """Note on the columns beside the accuracies; None without any."""
    if not any(name in table and table[name].notna().any() for name in BESIDE):
        return None
    images, threats = (dict.fromkeys(table[name].dropna()) for name in ("transfer_attack_examples", "unseen_threat"))
    return (
        f"On {', '.join(f'{count:g}' for count in images)} images each: attacked through the source, adaptively, at "
        f"{', '.join(threats)}, and how far an attacker without labels moves the features, in their lengths."
    )


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
