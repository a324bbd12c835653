"""Pictures of contests: fronts coloured by strategy over the baseline's curve."""

from __future__ import annotations

from robust_transfer.attacks.naming import spoken
from robust_transfer.drawing.figures import Drawing, Point
from robust_transfer.drawing.plots import svg
from robust_transfer.drawing.rivals import rivals
from robust_transfer.study.fronts import Contest, Rival, Setting


def picture(contest: Contest) -> Drawing:
    """Every setting of every strategy of a contest, joined along the fronts; those that val has chosen are filled."""
    series = {rival.name: [_point(rival, one) for one in rival.settings] for rival in contest.rivals}
    chosen = {_name(rival, one) for rival in contest.rivals for one in rival.settings if one.chosen}
    return rivals(
        series, baseline=contest.baseline, chosen=chosen, constant=contest.constant,
        threat=f"{contest.threat}, {spoken(contest.attack)}",
    )  # fmt: skip


def picture_file(contest: Contest) -> str:
    """Picture for a file; SVG."""
    return svg(picture(contest).figure)


def _point(rival: Rival, one: Setting) -> Point:
    return Point(_name(rival, one), one.clean, one.robust)


def _name(rival: Rival, one: Setting) -> str:
    return f"{rival.name}, {one.name}"
