"""Figures of a report: entries as drawings, each with its numbers in a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from robust_transfer.checkpoint import Card
from robust_transfer.drawing import Drawing, Point, inline
from robust_transfer.drawing.figures import budgets, costs, front, histories, pareto, tradeoff
from robust_transfer.errors import DataError
from robust_transfer.monitor import VALIDATION_IMAGES
from robust_transfer.pretraining import PGDAT
from robust_transfer.report.gather import Entry
from robust_transfer.report.levels import levels, measured
from robust_transfer.report.words import share
from robust_transfer.statistics.intervals import wilson
from robust_transfer.strategies import curve
from robust_transfer.threat import Threat

LONGEST = 20  # characters of a name beside a bar
BARS = 16  # of one figure
LINES = 12  # of one figure


@dataclass(frozen=True)
class Table:
    """Cells as text; the first of each row names it."""

    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Shown:
    """Figure on the page: SVG, and its numbers."""

    title: str
    svg: str
    table: Table
    caption: str = ""


def shown(drawing: Drawing, key: str, title: str, told: str, table: Table, caption: str = "") -> Shown:
    """Drawing for the page: ``told`` is the description for screen readers, ``table`` has its numbers."""
    return Shown(title, inline(drawing, key=key, title=title, description=told), table, caption)


def compared(points: Sequence[Point], labels: Sequence[str], *, constant: float, threat: str, key: str) -> Shown:
    """Clean against robust accuracy of results that were measured alike, which have these labels on the page."""
    best = set(pareto(points))
    rows = [
        (f"{label}: {p.name}", share(p.clean), share(p.robust), "yes" if row in best else "no")
        for row, (label, p) in enumerate(zip(labels, points, strict=True))
    ]
    drawing = tradeoff(points, labels=labels, constant=constant, threat=threat)
    told = (
        f"{len(points)} results, clean accuracy to the right, robust upwards; {len(best)} of them on the Pareto front."
    )
    return shown(
        drawing, key, "Clean against robust accuracy", told,
        Table(("result", "clean", "robust", "on the Pareto front"), rows),
        "Numbers are those of the table. Lines: 95 % intervals. Nothing here is both more accurate and more robust than a "
        "point on the front. Constant classifier: says the most frequent class always.",
    )  # fmt: skip


def over_eps(entries: Sequence[Entry], numbers: dict[str, int], key: str) -> Shown | None:
    """Robust accuracy over eps, of entries with more than one budget; None without any."""
    series: dict[str, list[tuple[float, str, Any]]] = {}
    norm, unit = "", 1.0
    for entry in entries:
        evaluation = entry.evaluation
        assert evaluation is not None
        norm = Threat.parse(evaluation.threat).norm
        unit = 255.0 if norm == "linf" else 1.0
        clean = (0.0, "not attacked", evaluation.clean_accuracy)
        smallest = [level for level in levels(evaluation) if level.standing is not None]
        lines = {"attacked at each eps": measured(evaluation), "by the smallest eps of each image": smallest}
        known = {how: found for how, found in lines.items() if len(found) > 1}
        if len(entries) > 1:  # a line each
            known = {f"{numbers[entry.name]}: {entry.short}": found for found in list(known.values())[:1]}
        for name, found in known.items():
            series[name] = [clean, *((unit * lv.eps, lv.threat, lv.robust) for lv in found)]
    if not series:
        return None
    rows = [(f"{name}: {text}", share(found)) for name, points in series.items() for _, text, found in points]
    drawn = dict(list(series.items())[:LINES])
    some = (
        f"Drawn: the first {len(drawn)} of {len(series)} runs; the table has all." if len(drawn) < len(series) else ""
    )
    drawing = budgets(drawn, unit="eps, in 255ths of the range of colour values" if norm == "linf" else "eps (l2)")
    told = f"{len(series)} lines that fall from clean accuracy at eps 0; the table has every point."
    return shown(drawing, key, "Robust accuracy against eps", told, Table(("at", "robust accuracy"), rows), some)


def frontier(card: Card, key: str) -> Shown | None:
    """Points on val of a strategy that makes a curve; None for other cards."""
    series: dict[str, list[Point]] = {}
    try:
        n = min(int(card.data["val"]), VALIDATION_IMAGES)
        for record in card.metrics["front"]:
            series.setdefault(curve.series(record), []).append(_candidate(record, n))
        mark = _candidate(card.metrics["chosen"], n)
    except (KeyError, TypeError, ValueError, DataError):  # another strategy's, or another version's
        return None
    points = [point for some in series.values() for point in some]
    threat = f"{card.threat}, {card.metrics.get('val_attack', 'PGD-10')}, {n} val images"
    rows = [(p.name, share(p.clean), share(p.robust), "chosen" if p.name == mark.name else "") for p in points]
    told = f"{len(points)} points on val, clean accuracy to the right, robust accuracy upwards; chosen: {mark.name}."
    return shown(
        front(series, chosen=mark, constant=None, threat=threat), key, "Frontier on val", told,
        Table(("point", "clean on val", "robust on val", ""), rows),
        "Chosen on val, so these figures are a little too good; the evaluation's are not. Lines: 95 % Wilson intervals.",
    )  # fmt: skip


def _candidate(record: dict[str, Any], n: int) -> Point:
    clean, robust = (wilson(round(record[f"val_{level}_accuracy"] * n), n) for level in ("clean", "robust"))
    return Point(", ".join(curve.parts(record)), clean, robust)


def training(log: Sequence[dict[str, Any]], key: str) -> Shown | None:
    """Loss and accuracies over epochs, from a training log; None without one."""
    wanted = {
        "loss": {"loss": "loss", "val loss": "val_loss"},
        "accuracy, %": {"train": "accuracy", "val, clean": "val_clean_accuracy", "val, robust": "val_robust_accuracy"},
    }
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for title, names in wanted.items():
        factor = 100.0 if "%" in title else 1.0
        for name, column in names.items():
            points = [
                (float(r["epoch"]), factor * float(r[column]))
                for r in log
                if isinstance(r.get("epoch"), (int, float)) and isinstance(r.get(column), (int, float))
            ]
            if points:
                panels.setdefault(title, {})[name] = points
    if not panels:
        return None
    rows = [
        (f"{name}, epoch {at:.3g}", f"{y:.4g}")
        for series in panels.values()
        for name, points in series.items()
        for at, y in points
    ]
    told = f"Training curves, {' and '.join(panels)} over epochs, from {len(log)} records."
    return shown(histories(panels, x="epoch"), key, "Training", told, Table(("what", "value"), rows[:400]))


def cost(entries: Sequence[Entry], numbers: dict[str, int], key: str) -> Shown | None:
    """Image passes of each network, beside an estimate for adversarial training on as many images."""
    cards = {
        entry.card.weights_hash: (f"{numbers[entry.name]}: {entry.short}", entry.card)
        for entry in reversed(entries)  # of several evaluations of one network the first counts
        if entry.card is not None and not entry.card.origin
    }
    cards = dict(reversed(cards.items()))
    rows = [(name, card.cost.passes) for name, card in cards.values()]
    return beside_rival(rows, [card.data.get("train") for _, card in cards.values()], key)


def beside_rival(measured: Sequence[tuple[str, float]], train: Sequence[Any], key: str) -> Shown | None:
    """Image passes by name, beside adversarial training on each number of images in ``train``; None where nothing counts."""
    rows = [(name, passes, True) for name, passes in measured if passes > 0]
    if not rows:
        return None
    rival = PGDAT()
    left_out = len(rows) - BARS if len(rows) > BARS + 1 else 0
    if left_out:  # the cheapest and the dearest say what is to be said
        order = sorted(rows, key=lambda row: row[1])
        rows = order[: BARS // 2] + order[-BARS // 2 :]
    sizes = sorted({n for n in train if isinstance(n, int) and n > 0})
    sizes = sizes if len(sizes) <= 3 else [sizes[0], sizes[-1]]
    rows += [(f"PGD on {n:,} images", rival.images_seen(n) * rival.passes_per_image, False) for n in sizes]
    table = [(name, f"{passes:,.0f}", "measured" if known else "estimated") for name, passes, known in rows]
    drawn = [
        (name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…", passes, known) for name, passes, known in rows
    ]
    told = f"Image passes: {'; '.join(f'{name}: {passes} ({how})' for name, passes, how in table)}."
    some = f" {left_out} that lie between the cheapest and the dearest are left out." if left_out else ""
    return shown(
        costs(drawn), key, "Cost beside adversarial training", told, Table(("network", "image passes", ""), table),
        "A forward pass of an image counts 1, its gradient of the weights 2. Measured: what training and tuning took here, "
        "the source's own training left out. Estimated: adversarial training (pgd-at with its defaults, "
        f"{rival.epochs:g} epochs of {rival.steps} steps) on as many images, {rival.passes_per_image:g} passes an image, "
        f"val not counted.{some}",
    )  # fmt: skip
