"""Report: one self-contained page on one run or on many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from robust_transfer.attacks.naming import spoken
from robust_transfer.comparison import LEVELS, Comparison
from robust_transfer.drawing import render
from robust_transfer.environment import command_line, environment
from robust_transfer.errors import ConfigError
from robust_transfer.evaluation import Evaluation
from robust_transfer.files import write_text
from robust_transfer.report import figures, made
from robust_transfer.report.details import Scope, details
from robust_transfer.report.figures import Table
from robust_transfer.report.flags import advice
from robust_transfer.report.gather import Entry, gather
from robust_transfer.report.groups import Group, comparable, differences
from robust_transfer.report.levels import levels
from robust_transfer.report.pictures import MOST
from robust_transfer.report.words import caution, headline, unknown
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
    """Write one HTML page on ``runs`` (run folders, or folders of them) to the file ``out``; returns its path.

    ``data`` says where the evaluated images are, for the gallery; None: where the evaluation's own command says, if that is
    here. Without ``pictures`` the page holds no pixels of the data. ``comparison``: paired differences to show above.
    Raises :class:`DataError` for what is no run, :class:`ConfigError` and :class:`OutputError` for a bad ``out``.
    """
    if Path(out).is_dir():
        raise ConfigError(f"{out} is a folder: give a file, such as report.html")
    if data is not None and not data.strip():
        raise ConfigError("data is empty: name the data that was evaluated, or leave it out")
    entries = gather(runs)
    with (run or Run()).at_work():
        text = page(entries, data=data, pictures=pictures, run=run or Run(), comparison=comparison)
    write_text(Path(out), text)
    return Path(out)


def write_beside(folder: Path, *, data: str | None = None, run: Run) -> Path:
    """Write the page on the run in ``folder`` into it, as a file of the run's; returns its path."""
    with run.at_work():
        text = page(gather([folder]), data=data, pictures=True, run=run)
    with replace(run, out=folder).at_work():  # what is written while it is held is known to be the run's
        write_text(folder / BESIDE, text)
    return folder / BESIDE


def page(
    entries: Sequence[Entry], *, data: str | None, pictures: bool, run: Run, comparison: Comparison | None = None
) -> str:
    """HTML of the report."""
    numbers = {entry.name: number for number, entry in enumerate(entries, 1)}
    groups, shown = comparable(entries), entries[:IN_FULL]
    evaluated = [entry for entry in shown if entry.evaluation is not None]
    each = max(1, MOST // max(1, len(evaluated))) if pictures else 0
    scope = Scope(each, max(10, CLASSES // max(1, len(evaluated))), data, run)
    here = environment()
    return render(
        "report.html",
        room="report",
        style="report.css",
        script="report.js",
        title=_title(entries),
        runs=[_overview(entry, numbers[entry.name], number < IN_FULL) for number, entry in enumerate(entries)],
        apart=differences(groups),
        groups=[_group(group, numbers, f"group-{number}") for number, group in enumerate(groups)],
        comparison=_comparison(comparison) if comparison is not None else None,
        cost=figures.cost(entries, numbers, "cost") if len(entries) > 1 else None,
        details=[details(entry, numbers[entry.name], scope, alone=len(entries) == 1) for entry in shown],
        left_out=len(entries) - len(shown),
        command=command_line(),
        versions=", ".join(f"{name} {version}" for name, version in here["versions"].items()),
        commit=here["commit"],
    )


def _title(entries: Sequence[Entry]) -> str:
    return f"Robustness of {entries[0].name}" if len(entries) == 1 else f"Robustness of {len(entries)} runs"


def _overview(entry: Entry, number: int, in_full: bool) -> dict[str, Any]:
    """Top of the page on one run."""
    evaluation = entry.evaluation
    return {
        "number": number,
        "name": entry.name,
        "in_full": in_full,
        "made": made.summary(entry.card) if entry.card is not None else "",
        "problems": entry.problems,
        "sentences": _sentences(evaluation) if evaluation is not None else [],
        "caution": caution(evaluation) if evaluation is not None else "",
        "searched": evaluation is not None and evaluation.red_flag_examples > 0,
        "flags": [(flag, advice(flag)) for flag in evaluation.flags] if evaluation is not None else [],
        "clean": evaluation.clean_accuracy if evaluation is not None else None,
        "robust": evaluation.robust_accuracy if evaluation is not None else None,
        "constant": evaluation.constant_accuracy if evaluation is not None else None,
        "how": f"{evaluation.threat}, {spoken(evaluation.attack)}" if evaluation is not None else "",
        "unknown": list(unknown(entry)),
    }


def _sentences(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Headline at each known budget, the evaluated one marked."""
    return [
        {"text": headline(evaluation, level), "own": level.own, "level": number, "budget": level.threat}
        for number, level in enumerate(levels(evaluation))
    ]


def _group(group: Group, numbers: dict[str, int], key: str) -> dict[str, Any]:
    """Section on comparable runs."""
    first, several = group.evaluation, len(group.entries) > 1
    images = f"{len(first.outcomes)} images (split {first.split}, content hash {first.data_hash})"
    what = f"{images}, {first.threat}, {spoken(first.attack)}"
    seeds = [
        (
            " and ".join(f"{numbers[e.name]}" for e in some.entries),
            ", ".join(map(str, some.seeds)),
            f"{100 * some.clean:.1f} % (± {100 * some.clean_spread:.1f})",
            f"{100 * some.robust:.1f} % (± {100 * some.robust_spread:.1f})",
        )
        for some in group.seeds
    ]
    return {
        "what": what,
        "numbers": [numbers[entry.name] for entry in group.entries],
        "figure": figures.compared(group, numbers, f"{key}-plane") if several else None,
        "eps": figures.over_eps(group.entries, numbers, f"{key}-eps") if several else None,
        "seeds": Table(("runs", "seeds", "clean, mean (sd)", "robust, mean (sd)"), seeds) if seeds else None,
    }


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
