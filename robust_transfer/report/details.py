"""Section on one run: figures, classes and images, and provenance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robust_transfer.evaluation import Evaluation
from robust_transfer.evaluation.result import SMALLEST_EPS
from robust_transfer.report import figures, made
from robust_transfer.report.certified import certified
from robust_transfer.report.choice import chosen
from robust_transfer.report.classes import balanced, by_class, confused, confusion, name_of
from robust_transfer.report.corrupted import corrupted
from robust_transfer.report.further import further
from robust_transfer.report.gather import Entry
from robust_transfer.report.levels import Level, levels, stands
from robust_transfer.report.pictures import Gallery, gallery
from robust_transfer.run import Run
from robust_transfer.threat import Threat

MATRIX = 20  # classes, up to which a confusion matrix is drawn
PAIRS, PAIRS_ALONE = 8, 20  # beside a matrix, and where there is none


@dataclass(frozen=True)
class Scope:
    """Limits on the details of each run."""

    pictures: int
    classes: int
    run: Run


def details(entry: Entry, number: int, scope: Scope, *, data: str | None, alone: bool) -> dict[str, Any]:
    """Section of one run; ``data`` says where its images are (None: its own record)."""
    key, evaluation, card = f"run-{number}", entry.evaluation, entry.card
    log = entry.network.log if entry.network is not None else ()
    choice = entry.network.choice if entry.network is not None else None
    shown = [
        figures.frontier(card, f"{key}-front") if card is not None else None,
        figures.over_eps([entry], {}, f"{key}-eps") if evaluation is not None else None,
        certified(evaluation, f"{key}-certified") if evaluation is not None else None,
        figures.training(log, f"{key}-training"),
        figures.cost([entry], {entry.name: number}, f"{key}-cost") if alone else None,
    ]
    return {
        "number": number,
        "name": entry.name,
        "choice": chosen(choice, f"{key}-choice") if choice is not None else None,
        "figures": [figure for figure in shown if figure is not None],
        "untold": _untold(entry, has_front=shown[0] is not None, has_training=shown[2] is not None),
        "classes": _classes(evaluation, scope.classes) if evaluation is not None else None,
        "further": further(evaluation) if evaluation is not None else None,
        "corrupted": corrupted(evaluation) if evaluation is not None else None,
        "gallery": _gallery(entry, evaluation, scope, data) if evaluation is not None else None,
        "levels": [(lv.threat, lv.own) for lv in levels(evaluation)] if evaluation is not None else [],
        "lineage": made.lineage(card) if card is not None else [],
        "choices": made.choices(card) if card is not None else None,
        "network": made.network(card) if card is not None else None,
        "evaluation": made.evaluation(entry),
    }


def _untold(entry: Entry, *, has_front: bool, has_training: bool) -> list[str]:
    """Common figures that are missing, with the reason."""
    if entry.card is None:
        return []
    told = []
    if not has_training:
        told.append(
            "Training curves: there are none. The method keeps no log of epochs, or the log is not in the folder."
        )
    if not has_front and "front" in entry.card.metrics:
        told.append("Points of a frontier: the card has some, in a form that this version does not read.")
    return told


def _classes(evaluation: Evaluation, most: int) -> dict[str, Any]:
    """Per-class table, balanced accuracy and confusions."""
    known = levels(evaluation)
    at = [(number, level) for number, level in enumerate(known) if level.standing is not None]
    rows = by_class(evaluation, [level for _, level in at])
    clean, robust = balanced(rows)
    names = {"as it is": "clean_prediction", "attacked": "adversarial_prediction"}
    labels = {*evaluation.outcomes["label"]}.union(*(evaluation.outcomes[column] for column in names.values()))
    pairs = PAIRS if len(labels) <= MATRIX else PAIRS_ALONE
    return {
        "rows": rows[:most],
        "left_out": len(rows) - len(rows[:most]),
        "at": [{"level": number, "text": level.threat, "own": level.own} for number, level in at],
        "other": [level.threat for level in known if level.standing is None],
        "count": len(rows),
        "clean": clean,
        "robust": robust,
        "pairs": {how: confused(evaluation, column, pairs) for how, column in names.items()},
        "matrices": {how: _matrix(evaluation, column) for how, column in names.items()}
        if len(labels) <= MATRIX
        else {},
        "classes": len(labels),
    }


def _matrix(evaluation: Evaluation, column: str) -> dict[str, Any]:
    labels, counts = confusion(evaluation.outcomes, column)
    totals = counts.sum(1, keepdims=True).clip(1)
    shades = (counts * 8 // totals).tolist()  # 0 to 8: how much of its row a cell holds
    names = [name_of(evaluation, label) for label in labels]
    rows = [
        {"name": name, "cells": list(zip(line, tones, strict=True))}
        for name, line, tones in zip(names, counts.tolist(), shades, strict=True)
    ]
    return {"names": names, "rows": rows}


def _gallery(entry: Entry, evaluation: Evaluation, scope: Scope, data: str | None) -> dict[str, Any]:
    if not scope.pictures:
        found = Gallery((), why="There are no pictures: the page was asked for without them (--no-pictures).")
    else:
        found = gallery(entry, data=data, most=scope.pictures, run=scope.run)
    known = [level for level in levels(evaluation) if level.eps <= Threat.parse(evaluation.threat).eps]
    return {
        "found": found,
        "pictures": [
            (picture, _fates(picture.smallest, known), _smallest(picture.smallest, evaluation))
            for picture in found.pictures
        ],
        "measured": SMALLEST_EPS in evaluation.outcomes,
    }


def _fates(smallest: float | None, known: Sequence[Level]) -> list[tuple[int, str]]:
    """Fate of an image at each budget, if known."""
    if smallest is None:
        return []
    found = np.array([smallest])
    return [(n, f"at {lv.threat}: {'stands' if stands(found, lv.eps)[0] else 'flips'}") for n, lv in enumerate(known)]


def _smallest(smallest: float | None, evaluation: Evaluation) -> str:
    if smallest is None:
        return ""
    if smallest == 0:
        return "wrong as it is"
    threat = Threat.parse(evaluation.threat)
    if smallest > threat.eps:
        return f"nothing up to {evaluation.threat} flips it"
    size = f"{255 * smallest:.2g}/255" if threat.norm == "linf" else f"{smallest:.2g}"
    return f"flips at eps {size}"
