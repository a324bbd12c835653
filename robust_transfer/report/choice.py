"""Section on the candidates of `choose`: their front on val, the selected one with the reason, untried ones."""

from __future__ import annotations

from typing import Any

from robust_transfer.choosing import Choice, Judged
from robust_transfer.choosing.choice import front as best_of
from robust_transfer.drawing.figures import Point, front
from robust_transfer.report.figures import Table, shown
from robust_transfer.report.words import share


def chosen(choice: Choice, key: str) -> dict[str, Any]:
    """Figure and words on a choice."""
    series: dict[str, list[Point]] = {}
    for one in choice.tried:
        series.setdefault(f"{one.source}: {one.method.removeprefix('transfer:')}", []).append(_point(one))
    of = "balanced, " if choice.best.by_balanced else ""
    best = {one.name for one in best_of(choice.tried)}
    rows = [_row(one, choice, on_front=one.name in best) for one in choice.tried]
    told = (
        f"{len(rows)} contenders on val, clean accuracy to the right, robust accuracy upwards; chosen: {choice.chosen}."
    )
    figure = shown(
        front(series, chosen=_point(choice.best), constant=None, threat=f"{choice.threat}, val"), key, "What was tried", told,
        Table(("contender", f"{of}clean on val", f"{of}robust on val", "by", "val images", ""), rows),
        "On val, by which it was chosen: these figures are a little too good; the evaluation's are not. "
        "Lines: 95 % Wilson intervals.",
    )  # fmt: skip
    return {
        "figure": figure if len(rows) > 1 else None,  # one point is no front
        "why": f"{choice.chosen}: {choice.why}.",
        "classes": [*filter(None, (choice.on_classes(), choice.balanced_line()))],
        "time": f"{choice.seconds:.0f} s of {choice.limit:.0f} s.",
        "untried": list(choice.untried.items()),
        "notes": choice.notes,
    }


def _point(one: Judged) -> Point:
    return Point(one.name, *one.shares)


def _row(one: Judged, choice: Choice, *, on_front: bool) -> tuple[str, ...]:
    point, final = _point(one), one.final_robust is not None
    words = [*(["chosen"] if one.name == choice.chosen else []), *(["on the front"] if on_front else [])]
    by = choice.final_attack if final else choice.attack
    return one.name, share(point.clean), share(point.robust), str(by), str(point.robust.n), ", ".join(words)
