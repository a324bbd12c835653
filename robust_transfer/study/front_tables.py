"""Contests of a study as tables of text: a row a strategy, losers included, and a row a setting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from robust_transfer.attacks.naming import spoken
from robust_transfer.statistics.intervals import Difference, Proportion
from robust_transfer.study.fronts import Contest, Rival, Setting

RIVALS = (
    "strategy", "chosen on val", "clean, %", "robust, %", "gain, points", "by seed", "image passes",
    "area, %", "less the baseline's", "reach, %", "gain / open / lose / outside",
)  # fmt: skip
SETTINGS = ("strategy", "setting", "", "clean, %", "robust, %", "gain, points", "by seed", "image passes", "note")
OTHERS_EXPLAINED = (
    "Other threats: the setting that val has chosen at the contest's own threat, on the same images; for threats by the same "
    "attack, and for corruptions the mean of all kinds and severities, without an attack."
)
EXPLAINED = (
    "Gain: clean accuracy above the baseline's whole curve at equal robust accuracy, with the 95 % interval of a paired "
    "bootstrap over images and seeds; each interval is by itself. Outside the curve's range of robust accuracy no "
    "baseline is as robust, so that there is no gain. Area: mean clean accuracy of a strategy's front over the range, 0 "
    "where it has no point so robust; reach: the share of the range that it has. Image passes are those of one setting, its "
    "tuning included, the source's training not. The last column counts a strategy's settings by their verdict."
)


def filled(head: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows without the columns in which nothing stands."""
    kept = [place for place in range(len(head)) if not rows or any(row[place] for row in rows)]
    return tuple(head[place] for place in kept), [tuple(row[place] for place in kept) for row in rows]


def rival_rows(contest: Contest) -> list[tuple[str, ...]]:
    """Row for each strategy: the baseline, then by the gain of the setting that val has chosen."""
    return [_rival(contest, rival) for rival in sorted(contest.rivals, key=lambda rival: _order(contest, rival))]


def setting_rows(contest: Contest) -> list[tuple[str, ...]]:
    """Row for each setting of each strategy."""
    rows = list[tuple[str, ...]]()
    for rival in contest.rivals:
        for one in rival.settings:
            marks = ", ".join(["chosen"] * one.chosen + ["on its front"] * one.on_front)
            shares = share(one.clean), share(one.robust)
            rows.append(
                (rival.name, one.name, marks, *shares, gain(one), _seeds(contest, one), passes(one), one.attacked)
            )
    return rows


def other_rows(contest: Contest) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head, and a row for each strategy's chosen setting: accuracy under what else it was measured at. No rows without any."""
    chosen = [(rival.name, rival.chosen) for rival in contest.rivals]
    shown = [(name, one) for name, one in chosen if one is not None and one.others]
    levels = list(dict.fromkeys(level for _, one in shown for level in one.others))
    head = ("strategy", "chosen on val", "clean, %", f"{contest.threat}, %", *(f"{level}, %" for level in levels))
    rows = [
        (
            name,
            one.name,
            share(one.clean),
            share(one.robust),
            *(share(one.others[at]) if at in one.others else "" for at in levels),
        )
        for name, one in shown
    ]
    return head, rows


def told(contest: Contest) -> str:
    """Sentence on what is compared."""
    low, high = (f"{100 * end:.1f}" for end in contest.over)
    return (
        f"{contest.n} test images, {contest.threat}, {spoken(contest.attack)}; the baseline is {contest.baseline}, whose curve "
        f"has {len(contest.base.settings)} settings; a constant classifier is right on {100 * contest.constant:.1f} %. "
        f"Areas: robust accuracy from {low} to {high} %."
    )


def share(figure: Proportion) -> str:
    """Accuracy with its interval, in %."""
    return f"{100 * figure.value:.1f} [{100 * figure.low:.1f}, {100 * figure.high:.1f}]"


def gain(one: Setting) -> str:
    """Gain with its interval and what that says, or why there is none."""
    if one.gain is None:
        return "the baseline" if one.is_baseline else "none: no baseline has these seeds"
    if one.gain.known:
        return f"{_points(one.gain.figure)} {one.verdict}"
    outside, every = Counter(map(str, one.gain.places)), len(one.gain.places)
    sides = {"above": "more robust", "below": "less robust"}
    where = [words + (f" in {outside[side]} of {every} seeds" if outside[side] < every else "")
             for side, words in sides.items() if outside[side]]  # fmt: skip
    return f"none ({', '.join(where)})"


def seeds(one: Setting) -> str:
    """Gain of each seed that has one; of one seed nothing more than the figure."""
    if one.gain is None or len(one.seeds) < 2:
        return f"seed {one.seeds[0]}" if len(one.seeds) == 1 else ""
    pairs = zip(one.gain.by_seed, one.gain.places, strict=True)
    return ", ".join(f"{100 * value:+.1f}" if where == "on" else "none" for value, where in pairs)


def _seeds(contest: Contest, one: Setting) -> str:
    """Gain of each seed; nothing where there is one seed in all."""
    every = {seed for rival in contest.rivals for setting in rival.settings for seed in setting.seeds}
    return seeds(one) if len(every) > 1 else ""


def passes(one: Setting) -> str:
    """Mean cost of one seed's result."""
    return f"{one.passes:,.0f}"


def _rival(contest: Contest, rival: Rival) -> tuple[str, ...]:
    verdicts = Counter(one.verdict for one in rival.settings)
    counts = " / ".join(str(verdicts[name]) for name in ("gains", "open", "loses", "outside"))
    areas = ("", "", "")
    if rival.area is not None:
        area, more = rival.area.figure, "" if rival.name == contest.baseline else _points(rival.area.more)
        areas = (
            f"{100 * area.value:.1f} [{100 * area.low:.1f}, {100 * area.high:.1f}]",
            more,
            f"{100 * rival.area.reach:.0f}",
        )
    one = rival.chosen
    own = ("", "", "", "", "", "")
    if one is not None:
        own = (one.name, share(one.clean), share(one.robust), gain(one), _seeds(contest, one), passes(one))
    return (rival.name, *own, *areas, "" if rival.name == contest.baseline else counts)


def notes(contest: Contest) -> list[str]:
    """Sentence for each mixture, on how it was attacked, and for each strategy that lacks figures."""
    told = list[str]()
    for rival in contest.rivals:
        attacked = dict.fromkeys(one.attacked for one in rival.settings if one.attacked)
        told += [f"{rival.name}: {how}." for how in attacked]
        told += [f"{rival.name}: {rival.lost} of its cells without figures."] if rival.lost else []
    return told


def _order(contest: Contest, rival: Rival) -> tuple[int, float]:
    one = rival.chosen
    if rival.name == contest.baseline:
        return 0, 0.0
    if one is not None and one.gain is not None and one.gain.known:
        return 1, -one.gain.figure.value
    return 2, -rival.area.more.value if rival.area is not None else 0.0


def _points(figure: Difference) -> str:
    return f"{100 * figure.value:+.1f} [{100 * figure.low:+.1f}, {100 * figure.high:+.1f}]"
