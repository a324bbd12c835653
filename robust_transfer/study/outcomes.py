"""Outcomes of all cells in one small file, which fronts are computed from: kept with the table, it needs no run folders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robust_transfer.errors import DataError
from robust_transfer.evaluation import load_evaluation
from robust_transfer.files import read_table, write_bytes
from robust_transfer.statistics.resampling import Correctness
from robust_transfer.study.store import Store

OUTCOMES = "outcomes.parquet"


@dataclass(frozen=True)
class Judged:
    """Images of an evaluation, by their ids, and how far each is right: 0 not even clean, 1 clean only, 2 under attack, too."""

    ids: NDArray[Any]
    right: NDArray[Any]

    def correctness(self) -> Correctness:
        """Each image's correctness, clean and under attack."""
        return Correctness(self.right >= 1, self.right >= 2)


def write_outcomes(store: Store, table: pd.DataFrame) -> None:
    """Write the outcomes of the table's cells, a row an evaluation: ``evaluated`` (its address), ``ids``, ``right``."""
    rows = []
    done = table[table["failure"].isna()] if len(table) else table
    for key in dict.fromkeys(done["evaluated"]) if len(done) else ():
        found = load_evaluation(store.folder("evaluations", key))
        clean, robust = found.right("clean"), found.right("robust")
        rows.append(
            {"evaluated": key, "ids": clean.index.to_numpy(np.int32), "right": (clean + 1 * robust).to_numpy(np.int8)}
        )
    write_bytes(store.root / OUTCOMES, pd.DataFrame(rows).to_parquet(index=False, compression="zstd"))


def read_outcomes(folder: Path) -> dict[str, Judged] | None:
    """Outcomes by the evaluation's address; None where the study has none. Raises :class:`DataError` for another file."""
    path = folder / OUTCOMES
    if not path.is_file():
        return None
    try:
        found = read_table(path)
        return {row["evaluated"]: Judged(row["ids"], row["right"]) for row in found.to_dict("records")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
