"""Overview: what was found of one run, and of many beside each other, seeds of one thing taken together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from robust_transfer.attacks.naming import spoken
from robust_transfer.drawing import Point
from robust_transfer.drawing.figures import pareto
from robust_transfer.evaluation import Evaluation
from robust_transfer.report import figures, made
from robust_transfer.report.flags import advice
from robust_transfer.report.gather import Entry
from robust_transfer.report.groups import Group, Setting, comparable, differences
from robust_transfer.report.levels import levels
from robust_transfer.report.words import best, caution, headline, unknown
from robust_transfer.threat import Threat


def found(entry: Entry, number: int) -> dict[str, Any]:
    """Findings on one run: headline, red flags, problems, and unknowns."""
    evaluation = entry.evaluation
    return {
        "number": number,
        "name": entry.name,
        "made": made.summary([entry.card] if entry.card is not None else []),
        "problems": entry.problems,
        "sentences": _sentences(evaluation) if evaluation is not None else [],
        "caution": caution(evaluation) if evaluation is not None else "",
        "searched": evaluation is not None and evaluation.red_flag_examples > 0,
        "flags": [(flag, advice(flag)) for flag in evaluation.flags] if evaluation is not None else [],
        "clean": evaluation.clean_accuracy if evaluation is not None else None,
        "robust": evaluation.robust_accuracy if evaluation is not None else None,
        "constant": evaluation.constant_accuracy if evaluation is not None else None,
        "unknown": list(unknown(entry)),
    }


def _sentences(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Headline at each budget that is known, the evaluated one marked."""
    return [
        {"text": headline(evaluation, level), "own": level.own, "level": number, "budget": level.threat}
        for number, level in enumerate(levels(evaluation))
    ]


def overview(entries: Sequence[Entry], numbers: dict[str, int]) -> dict[str, Any]:
    """Several runs beside each other: what may be compared in figures, the others by themselves, red flags once each."""
    groups = comparable(entries)
    left = [entry for entry in entries if entry.evaluation is None]
    return {
        "apart": differences(groups),
        "groups": [_group(group, numbers, f"group-{number}") for number, group in enumerate(groups)],
        "unevaluated": [_row(entry, numbers[entry.name]) for entry in left],
        "flags": _flags(entries, numbers),
        "cost": figures.cost(entries, numbers, "cost"),
    }


def _group(group: Group, numbers: dict[str, int], key: str) -> dict[str, Any]:
    """Runs that may be compared; those of several seeds as one row and one point."""
    first, settings = group.evaluation, group.settings
    threat = f"{first.threat}, {spoken(first.attack)}"
    labels = [_label([numbers[entry.name] for entry in setting.entries]) for setting in settings]
    points = [Point(_name(setting), setting.clean, setting.robust) for setting in settings]
    front, several = set(pareto(points)), len(settings) > 1
    return {
        "what": f"{len(first.outcomes)} images (split {first.split}, content hash {first.data_hash}), {threat}",
        "numbers": _label([numbers[entry.name] for entry in group.entries]),
        "alike": len(group.entries) > 1,
        "best": best(points, Threat.parse(first.threat)) if several else "",
        "constant": first.constant_accuracy,
        "figure": figures.compared(points, labels, constant=first.constant_accuracy, threat=threat, key=f"{key}-plane")
        if several
        else None,
        "eps": figures.over_eps(group.entries, numbers, f"{key}-eps") if len(group.entries) > 1 else None,
        "rows": [
            {
                "label": label,
                "name": point.name,
                "made": made.summary([entry.card for entry in setting.entries if entry.card is not None]),
                "clean": setting.clean,
                "robust": setting.robust,
                "seeds": [_row(entry, numbers[entry.name]) for entry in setting.entries],
                "flags": _flagged(setting),
                "searched": all(e.evaluation.red_flag_examples > 0 for e in setting.entries if e.evaluation),
                "front": several and row in front,
            }
            for row, (label, point, setting) in enumerate(zip(labels, points, settings, strict=True))
        ],
        "seeds": any(len(setting.entries) > 1 for setting in settings),
    }


def _flagged(setting: Setting) -> int:
    """Number of red flags of a run; of several seeds, how many of them have any."""
    counts = [len(entry.evaluation.flags) for entry in setting.entries if entry.evaluation is not None]
    return counts[0] if len(counts) == 1 else sum(count > 0 for count in counts)


def _row(entry: Entry, number: int) -> dict[str, Any]:
    """One run in a table."""
    card, evaluation = entry.card, entry.evaluation
    return {
        "number": number,
        "name": entry.name,
        "seed": card.seed if card is not None else None,
        "made": made.summary([card] if card is not None else []),
        "state": "unfinished" if entry.problems else "not evaluated",
        "problems": entry.problems,
        "clean": evaluation.clean_accuracy if evaluation is not None else None,
        "robust": evaluation.robust_accuracy if evaluation is not None else None,
    }


def _flags(entries: Sequence[Entry], numbers: dict[str, int]) -> list[dict[str, Any]]:
    """Red flags by what they mean, with the runs that each was raised for."""
    told = dict[str, dict[str, Any]]()
    for entry in entries:
        for flag in entry.evaluation.flags if entry.evaluation is not None else ():
            meant = advice(flag)
            one = told.setdefault(meant.sign or flag, {"flag": flag, "advice": meant, "runs": []})
            one["runs"].append(numbers[entry.name])
    return [{**one, "runs": _label(one["runs"])} for one in told.values()]


def _name(setting: Setting) -> str:
    names = [entry.name for entry in setting.entries]
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more seed{'s' * (len(names) > 2)}"


def _label(numbers: Sequence[int]) -> str:
    """Numbers in short: 1, 2, 3, 7 as 1-3, 7."""
    parts, numbers = list[list[int]](), sorted(set(numbers))
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(str(p[0]) if len(p) == 1 else f"{p[0]}{'-' if len(p) > 2 else ', '}{p[-1]}" for p in parts)
