"""Report: one self-contained page on one run or on many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from robust_transfer.attacks.naming import spoken
from robust_transfer.comparison import LEVELS, Comparison
from robust_transfer.drawing import render
from robust_transfer.environment import command_line, environment
from robust_transfer.errors import ConfigError
from robust_transfer.files import write_text
from robust_transfer.progress import tell
from robust_transfer.report.details import Scope, details
from robust_transfer.report.figures import Table
from robust_transfer.report.gather import Entry, split
from robust_transfer.report.overview import found, overview
from robust_transfer.report.pictures import MOST
from robust_transfer.report.studies import read_study
from robust_transfer.report.study_page import sections
from robust_transfer.report.words import title
from robust_transfer.run import Run

BESIDE = "report.html"
IN_FULL = 24  # runs; of more, what does not fit into the overview is left out, and said to be
CLASSES = 2000  # rows of per-class tables, all runs together


def write_report(
    runs: Sequence[str | Path],
    out: Path,
    *,
    data: str | None = None,
    pictures: bool = True,
    run: Run | None = None,
    comparison: Comparison | None = None,
) -> Path:
    """Write one HTML page on ``runs`` (folders of runs and studies, or folders of them) to the file ``out``; returns its path.

    ``data`` says where the evaluated images are, for the gallery; None: where the evaluation's own command says, if that is
    here. Without ``pictures`` the page holds no pixels of the data. ``comparison``: paired differences to show above.
    Raises :class:`DataError` for what is no run, :class:`ConfigError` and :class:`OutputError` for a bad ``out``.
    """
    if Path(out).is_dir():
        raise ConfigError(f"{out} is a folder: give a file, such as report.html")
    if data is not None and not data.strip():
        raise ConfigError("data is empty: name the data that was evaluated, or leave it out")
    with (run or Run()).at_work():
        text = page(runs, data=data, pictures=pictures, run=run or Run(), comparison=comparison)
    write_text(Path(out), text)
    return Path(out)


def write_beside(folder: Path, *, data: str | None = None, run: Run) -> Path:
    """Write the page on the run in ``folder`` into it, as a file of the run's; returns its path."""
    with run.at_work():
        text = page([folder], data=data, pictures=True, run=run)
    with replace(run, out=folder).at_work():  # what is written while it is held is known to be the run's
        write_text(folder / BESIDE, text)
    return folder / BESIDE


def page(
    paths: Sequence[str | Path], *, data: str | None, pictures: bool, run: Run, comparison: Comparison | None = None
) -> str:
    """HTML of the report."""
    entries, folders = split(paths)
    studies = [read_study(folder) for folder in folders]
    full = [Full(entry, number, data) for number, entry in enumerate(entries[:IN_FULL], 1)]
    for study in studies:
        last = max(len(entries), full[-1].number if full else 0)
        full += [Full(entry, last + k, data or where) for k, (entry, where) in enumerate(study.shown(), 1)]
    numbers = {entry.name: number for number, entry in enumerate(entries, 1)}
    evaluated = sum(one.entry.evaluation is not None for one in full)
    each = max(1, MOST // max(1, evaluated)) if pictures else 0
    scope = Scope(each, max(10, CLASSES // max(1, evaluated)), run)
    here, alone = environment(), len(entries) == 1 and not studies
    tell(run.quiet, f"drawing the page on {len(entries) + sum(len(study.table) for study in studies)} results ...")
    return render(
        "report.html",
        room="report",
        style="report.css",
        script="report.js",
        title=title(entries, [study.recipe.title for study in studies]),
        alone=alone,
        several=overview(entries, numbers) if entries and not alone else None,
        studies=[sections(study, f"study-{k}", pictures=pictures) for k, study in enumerate(studies)],
        comparison=_comparison(comparison) if comparison is not None else None,
        runs=[
            {
                **found(one.entry, one.number),
                "details": details(one.entry, one.number, scope, data=one.data, alone=alone),
            }
            for one in full
        ],
        left_out=max(0, len(entries) - IN_FULL),
        command=command_line(),
        versions=", ".join(f"{name} {version}" for name, version in here["versions"].items()),
        commit=here["commit"],
    )


@dataclass(frozen=True)
class Full:
    """Network that the page shows in full, its number there, and where its images are (None: as its record says)."""

    entry: Entry
    number: int
    data: str | None


def _comparison(found: Comparison) -> dict[str, Any]:
    rows = [
        (
            level,
            f"{100 * paired.a:.1f} %",
            f"{100 * paired.b:.1f} %",
            str(paired.difference),
            "B" if paired.difference.low > 0 else "A" if paired.difference.high < 0 else "no difference is shown",
        )
        for level in LEVELS
        for paired in (getattr(found, level),)
    ]
    seeds = f", over {found.seeds} seeds" if found.seeds > 1 else ""
    return {
        "what": f"B less A on the same {found.n} images{seeds} ({found.threat}, {spoken(found.attack)})",
        "table": Table(("accuracy", "A", "B", "difference, 95 % interval", "better"), rows),
    }
