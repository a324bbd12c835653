"""Sentences for the demo's table: an ordering is stated only where the 95 % intervals do not overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

Figures = dict[str, Any]  # of a row: see Row.figures
CurvePoint = Literal["clean", "robust"]
ADJECTIVES: dict[CurvePoint, str] = {"clean": "accurate on clean images", "robust": "robust"}


def apart(a: Figures, b: Figures, level: CurvePoint) -> int:
    """1 where ``a``'s interval lies above ``b``'s, -1 where it lies below, 0 where they overlap."""
    return int(a[level]["low"] > b[level]["high"]) - int(a[level]["high"] < b[level]["low"])


def all_apart(ours: Sequence[Figures], theirs: Sequence[Figures], level: CurvePoint) -> int:
    """1 where every one of ``ours`` lies above every one of ``theirs``, -1 where below, 0 else."""
    found = {apart(a, b, level) for a in ours for b in theirs}
    return found.pop() if len(found) == 1 else 0


def of_group(rows: Sequence[Figures], group: str) -> list[Figures]:
    """Rows of one group."""
    return [row for row in rows if row["group"] == group]


def headline(rows: Sequence[Figures], start: str) -> str:
    """Title of the page: the gain over the control, where it is significant. ``start`` names the source."""
    ours, theirs = of_group(rows, "source"), of_group(rows, "control")
    if ours and theirs and all_apart(ours, theirs, "robust"):
        return (
            f"Under attack, {_span(ours, 'robust')} right from {start}; {_span(theirs, 'robust')} from its natural twin"
        )
    return f"Strategies from {start}, side by side"


def sentences(rows: Sequence[Figures], constant: float, n: int, start: str) -> list[str]:
    """Table in sentences, significant differences and others; ``constant`` is the constant classifier's accuracy."""
    ours, theirs = of_group(rows, "source"), of_group(rows, "control")
    said = []
    if ours and theirs:
        said += [_groups(ours, theirs, level, start) for level in ("robust", "clean")]
    said += [_scratch(row, ours, start) for row in of_group(rows, "scratch")]
    said += [_within(ours, level, n, start) for level in ("robust", "clean")]
    return [*said, *_constant(rows, constant)]


def _groups(ours: Sequence[Figures], theirs: Sequence[Figures], level: CurvePoint, start: str) -> str:
    """Source's strategies against the control's."""
    what = ADJECTIVES[level]
    if sign := all_apart(ours, theirs, level):
        return (
            f"Every strategy from {start} is {'more' if sign > 0 else 'less'} {what} than every one from its natural twin: "
            f"{_span(ours, level)} against {_span(theirs, level)}; the intervals do not overlap."
        )
    twins = {row["name"]: row for row in theirs}
    pairs = [(row, twins[row["name"]]) for row in ours if row["name"] in twins]
    parts = []
    for sign, word in ((1, f"more {what}"), (-1, f"less {what}"), (0, f"no clear difference in how {what} they are")):
        found = [
            f"{a['name']} ({_percent(a[level]['value'])} against {_percent(b[level]['value'])})"
            for a, b in pairs
            if apart(a, b, level) == sign
        ]
        parts += [f"{word}: {', '.join(found)}"] if found else []
    return f"From {start} against from its natural twin, {'; '.join(parts)}."


def _scratch(row: Figures, ours: Sequence[Figures], start: str) -> str:
    """Training from scratch against every strategy from the source, with its cost."""
    figures = f"{_percent(row['clean']['value'])} clean and {_percent(row['robust']['value'])} under attack"
    said = [f"From scratch on the same images, {row['name']} reaches {figures}."]
    places: dict[CurvePoint, str] = {"robust": "Under attack", "clean": "On clean images"}
    for level, where in places.items():
        parts = []
        for sign, word in ((1, "clearly above"), (-1, "clearly below"), (0, "not clearly different from")):
            found = [other["name"] for other in ours if apart(row, other, level) == sign]
            parts += [f"{word} {_all(found, len(ours))}"] if found else []
        said.append(f"{where}: {', '.join(parts)} from {start}.")
    if row["adversarial_examples"] and ours:
        least = min(ours, key=lambda other: float(other["cost"]))
        said.append(
            f"It took {row['adversarial_examples']:,} adversarial examples and {row['cost']:,.0f} image passes; "
            f"{least['name']} took {least['adversarial_examples'] or 'no'} adversarial examples and "
            f"{least['cost']:,.0f} passes."
        )
    return " ".join(said)


def _within(rows: Sequence[Figures], level: CurvePoint, n: int, start: str) -> str:
    """Strategies from one source against each other."""
    best, worst = (pick(rows, key=lambda row: float(row[level]["value"])) for pick in (max, min))
    gap = 100 * (best[level]["value"] - worst[level]["value"])
    if apart(best, worst, level) > 0:
        return (
            f"From {start}, most {ADJECTIVES[level]}: {best['name']} ({_percent(best[level]['value'])}); least: "
            f"{worst['name']} ({_percent(worst[level]['value'])}), {gap:.1f} points apart with intervals that do not overlap."
        )
    return (
        f"On {n} images the strategies from {start} are not clearly different in how {ADJECTIVES[level]} they are "
        f"({gap:.1f} points apart)."
    )


def _constant(rows: Sequence[Figures], constant: float) -> list[str]:
    """Every row against the classifier that always predicts the most frequent class."""
    names = {"source": "", "control": " (natural twin)", "scratch": " (from scratch)"}
    said = []
    for above, words in ((True, "clearly better than"), (False, "not clearly better than")):
        found = [f"{row['name']}{names[row['group']]}" for row in rows if (row["robust"]["low"] > constant) is above]
        if found:
            said.append(f"Under attack, {words} saying one class always ({_percent(constant)}): {', '.join(found)}.")
    return said


def _all(names: Sequence[str], number: int) -> str:
    everyone = {2: "both strategies", 3: "all three strategies"}.get(number, f"all {number} strategies")
    return everyone if len(names) == number > 1 else ", ".join(names)


def _span(rows: Sequence[Figures], level: CurvePoint) -> str:
    values = sorted({f"{100 * row[level]['value']:.1f}" for row in rows}, key=float)
    return f"{values[0]} %" if len(values) == 1 else f"{values[0]} to {values[-1]} %"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
