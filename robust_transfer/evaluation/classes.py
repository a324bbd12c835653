"""Per-class accuracy, and balanced accuracy: the mean of the classes' recalls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from robust_transfer.evaluation.outcomes import CLEAN, SURVIVED
from robust_transfer.statistics.intervals import Proportion, mean_of, wilson

ByClass = dict[str, dict[str, Proportion]]
LEVELS = ("clean_accuracy", "robust_accuracy")


def by_class(outcomes: pd.DataFrame, names: Sequence[str]) -> ByClass:
    """Clean and robust accuracy (recall) of each class with images."""
    found = {}
    for label, rows in outcomes.groupby("label"):
        clean, robust = int((rows["broken_by"] != CLEAN).sum()), int((rows["broken_by"] == SURVIVED).sum())
        n = len(rows)
        found[names[int(str(label))]] = dict(zip(LEVELS, (wilson(clean, n), wilson(robust, n)), strict=True))
    return found


def balanced(classes: ByClass) -> dict[str, Any]:
    """Balanced clean and robust accuracy, each a :class:`Proportion`, over the classes with images."""
    return {f"balanced_{level}": mean_of([shares[level] for shares in classes.values()]) for level in LEVELS}


def unequal(classes: ByClass) -> bool:
    """True if class sizes differ by more than one, as they may in a stratified sample of equal classes."""
    counts = [shares[LEVELS[0]].n for shares in classes.values()]
    return max(counts) - min(counts) > 1


def worst(classes: ByClass, level: str) -> tuple[str, Proportion]:
    """Class with the lowest accuracy (ties: the one with the most images), and that accuracy."""
    name = min(classes, key=lambda name: (classes[name][level].value, -classes[name][level].n))
    return name, classes[name][level]
