"""Per-class figures from the outcomes: accuracies, balanced accuracy, and confusions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robust_transfer.evaluation import Evaluation
from robust_transfer.evaluation.outcomes import CLEAN, SURVIVED
from robust_transfer.report.levels import Level
from robust_transfer.statistics.intervals import Proportion, wilson

NO_NUMBERS = "(no number)"  # the prediction where the logits are none


@dataclass(frozen=True)
class ClassRow:
    """One class: accuracies over its ``n`` images; ``at`` has its robust accuracy at each level, None if unknown."""

    name: str
    n: int
    clean: Proportion
    robust: Proportion
    at: tuple[Proportion | None, ...]


@dataclass(frozen=True)
class Pair:
    """``count`` of the ``n`` images of class ``true`` are classified as ``taken``."""

    true: str
    taken: str
    count: int
    n: int


def by_class(evaluation: Evaluation, levels: Sequence[Level]) -> list[ClassRow]:
    """Every class with images, the least robust first."""
    table = evaluation.outcomes.reset_index(drop=True)
    rows = []
    for label, some in table.groupby("label"):
        n, places = len(some), some.index.to_numpy()
        clean, robust = int((some["broken_by"] != CLEAN).sum()), int((some["broken_by"] == SURVIVED).sum())
        at = [None if lv.standing is None else wilson(int(lv.standing[places].sum()), n) for lv in levels]
        rows.append(ClassRow(name_of(evaluation, int(str(label))), n, wilson(clean, n), wilson(robust, n), tuple(at)))
    return sorted(rows, key=lambda row: (row.robust.value, row.clean.value, row.name))


def balanced(rows: Sequence[ClassRow]) -> tuple[float, float]:
    """Balanced accuracies, clean and robust: means over classes, each of which counts the same."""
    return tuple(float(np.mean([getattr(row, level).value for row in rows])) for level in ("clean", "robust"))  # type: ignore[return-value]


def name_of(evaluation: Evaluation, label: int) -> str:
    """Name of a class; its number where the record has no names."""
    if label < 0:
        return NO_NUMBERS
    return evaluation.class_names[label] if label < len(evaluation.class_names) else f"class {label}"


def confusion(table: pd.DataFrame, column: str) -> tuple[list[int], NDArray[np.int64]]:
    """Occurring labels, and the number of images of each (rows) predicted as each (columns).

    ``column``: clean_prediction, or adversarial_prediction, which is the label where an image stands.
    """
    labels = sorted({*table["label"].tolist(), *table[column].tolist()})
    place = {label: row for row, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(counts, (table["label"].map(place).to_numpy(), table[column].map(place).to_numpy()), 1)
    return labels, counts


def confused(evaluation: Evaluation, column: str, most: int) -> list[Pair]:
    """Most frequently confused pairs of classes, up to the given number."""
    table = evaluation.outcomes
    wrong = table[table["label"] != table[column]]
    sizes = table["label"].value_counts()
    counted = wrong.groupby(["label", column]).size().rename("count").reset_index()
    counted = counted.sort_values(["count", "label", column], ascending=[False, True, True]).head(most)
    return [
        Pair(name_of(evaluation, int(true)), name_of(evaluation, int(taken)), int(count), int(sizes[true]))
        for true, taken, count in counted.itertuples(index=False)
    ]
