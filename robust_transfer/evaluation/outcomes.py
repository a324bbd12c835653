"""Outcomes: table of every attack's result on every example of a split."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robust_transfer.attacks.base import Attack, AttackResult
from robust_transfer.data import Split
from robust_transfer.files import write_bytes, write_json

EVALUATION, OUTCOMES = "evaluation.json", "outcomes.parquet"
SURVIVED, CLEAN, UNTESTED = "", "clean", "?"  # values of broken_by beside the attacks' names
COLUMNS = {
    "index": "int64",
    "label": "int64",
    "clean_prediction": "int64",
    "adversarial_prediction": "int64",
    "broken_by": "str",
    "margin": "float32",
}


@dataclass
class Outcomes:
    """Table of every example of a split (see :data:`COLUMNS`), and its cost.

    ``rows`` has one array per column, and ``faced``: the number of attacks that an example has been through.
    ``passes`` are forward-equivalent image passes; ``unconfirmed`` and ``missed`` as in :class:`AttackResult`.
    ``parts`` counts the blocks of adversarial images that were written.
    """

    rows: dict[str, NDArray[Any]]
    passes: int = 0
    unconfirmed: int = 0
    missed: int = 0
    seconds: float = 0.0
    parts: int = 0

    @classmethod
    def of(cls, split: Split) -> Outcomes:
        """Empty table for a split."""
        n = len(split)
        blank = {"clean_prediction": -1, "adversarial_prediction": -1, "broken_by": UNTESTED, "margin": np.nan}
        known = {"index": split.ids.numpy().copy(), "label": split.labels.numpy().copy()}
        rows = {**known, **{name: np.full(n, value, dtype_of(name)) for name, value in blank.items()}}
        return cls({**rows, "faced": np.zeros(n, np.int64)})

    @property
    def table(self) -> pd.DataFrame:
        """Rows of the examples that have faced at least one attack."""
        return pd.DataFrame({name: self.rows[name][self.reached] for name in COLUMNS}).astype(COLUMNS)

    @property
    def reached(self) -> NDArray[np.int64]:
        """Indices of the rows that have faced at least one attack."""
        return np.flatnonzero(self.rows["faced"] > 0)

    @property
    def used(self) -> int:
        """Number of attacks that have run, including those without any survivors to attack."""
        faced = self.rows["faced"]
        waiting = (self.rows["broken_by"] == SURVIVED) | (self.rows["broken_by"] == UNTESTED)
        return int(faced.max(initial=0)) if waiting.any() else sys.maxsize

    def unreached(self, attacks: Sequence[Attack]) -> dict[str, int]:
        """Number of examples that each attack has still to face, where the evaluation was stopped."""
        standing = (self.rows["broken_by"] == SURVIVED) | (self.rows["broken_by"] == UNTESTED)
        left = {str(a): int((standing & (self.rows["faced"] <= number)).sum()) for number, a in enumerate(attacks)}
        return {name: count for name, count in left.items() if count}

    def pending(self, number: int) -> NDArray[np.int64]:
        """Rows that attack ``number`` has still to attack: the survivors of the earlier ones."""
        waiting = self.rows["faced"] == number
        return np.flatnonzero(waiting & (self.rows["broken_by"] == SURVIVED) if number else waiting)

    def note(self, rows: NDArray[np.int64], name: str, number: int, result: AttackResult) -> NDArray[np.bool_]:
        """Record attack ``number``, called ``name``, on ``rows``; returns the mask of its strongest images so far."""
        broken, margin = result.broken.cpu().numpy(), result.margin.cpu().numpy()
        labels = self.rows["label"][rows]
        if number == 0:
            clean = result.clean_prediction.cpu().numpy()
            self.rows["clean_prediction"][rows] = clean
            worse = np.ones(len(rows), bool)
            fate = np.where(clean != labels, CLEAN, np.where(broken, name, SURVIVED))
        else:
            worse = broken | (margin > self.rows["margin"][rows])
            fate = np.where(broken, name, SURVIVED)
        self.rows["broken_by"][rows] = fate
        self.rows["margin"][rows[worse]] = margin[worse]
        prediction = np.where(broken, result.prediction.cpu().numpy(), labels)
        self.rows["adversarial_prediction"][rows] = prediction
        self.rows["faced"][rows] = number + 1
        self.passes += result.passes
        self.unconfirmed += result.unconfirmed
        self.missed += result.missed
        return worse


def write_outcomes(folder: Path, summary: dict[str, Any], table: pd.DataFrame) -> None:
    """Write a table and then the JSON that records its hash, each atomically; raises :class:`OutputError`."""
    write_bytes(folder / OUTCOMES, table.to_parquet(index=False))
    write_json(folder / EVALUATION, summary)


def dtype_of(name: str) -> Any:
    """NumPy type of a column."""
    return object if COLUMNS.get(name) == "str" else COLUMNS.get(name, "int64")
