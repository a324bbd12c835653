"""Results of a study as one tidy table: one row per cell, one column per fact."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from robust_transfer.checkpoint import CARD, read_card
from robust_transfer.evaluation.result import load_figures
from robust_transfer.files import write_bytes
from robust_transfer.statistics.intervals import Proportion
from robust_transfer.study.recipe import NAMED, SETTINGS, Cell, columns
from robust_transfer.study.work import Workshop, is_checkpoint

TABLE = "table.parquet"
ALSO = "also."  # columns of further threats
TIMINGS = ("training_seconds", "evaluation_seconds")  # what differs between two runs of the same study


def tabulate(
    workshop: Workshop, cells: Iterable[Cell], given_up: Mapping[str, str] = MappingProxyType({})
) -> pd.DataFrame:
    """One row for each cell that is done or ``given_up`` (reasons by the evaluation's address).

    Shares are in [0, 1] with Wilson's 95 % interval; ``balanced_clean`` and ``balanced_robust``, for which each class counts
    the same, with MOVER's. ``cost`` is what the result took in forward-equivalent image
    passes, tuning included, the source's training not: that is ``source_cost``. ``failure`` says why a cell has no
    figures. ``mixture``: the result is two networks, mixed. ``through_source``, ``feature_loss``, ``through_parts``, ``unseen``
    (at ``unseen_threat``) and the feature drifts are those of :class:`~robust_transfer.evaluation.Transferred`, on
    ``transfer_attack_examples`` images. ``also.NORM:EPS``: robust accuracy within a further threat; ``corrupted``: mean
    accuracy under common corruptions; both of the evaluation's images, with intervals.
    """
    rows = []
    for cell in cells:
        lost = None if workshop.done(cell) else given_up.get(workshop.evaluation_key(cell))
        if lost is not None or workshop.done(cell):
            rows.append(_row(workshop, cell, lost))
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    names = [str(name) for name in table]
    for name in names:  # a column has one type: mixed values of `each` are written as JSON
        if name.startswith(SETTINGS) and table[name].dropna().map(type).nunique() > 1:
            table[name] = table[name].map(lambda value: None if pd.isna(value) else json.dumps(value))
    order = [name for name in names if not name.startswith(SETTINGS)]
    first = len(NAMED)
    return table[[*order[:first], *(name for name in names if name.startswith(SETTINGS)), *order[first:]]]


def alike(rows: pd.DataFrame) -> pd.Series[int]:
    """Number for each row of a table: the same for cells that differ in their seed alone, in the order of the first of each."""
    names = [name for name in rows if (name in NAMED and name != "seed") or str(name).startswith(SETTINGS)]
    return rows.groupby(names, dropna=False, sort=False).ngroup()


def share_of(row: Mapping[Any, Any], level: str) -> Proportion:
    """Accuracy of a row with its interval."""
    return Proportion(row[level], row[f"{level}_low"], row[f"{level}_high"], int(row["n"]))


def write_table(table: pd.DataFrame, folder: Path) -> Path:
    """Write the table to ``folder``, atomically."""
    write_bytes(folder / TABLE, table.to_parquet(index=False))
    return folder / TABLE


def _row(workshop: Workshop, cell: Cell, lost: str | None) -> dict[str, Any]:
    row: dict[str, Any] = {**columns(cell), "recipe": workshop.recipe.name, "scale": workshop.recipe.scale}
    strategy = workshop.recipe.strategies[cell.strategy]
    row |= {"method": strategy.strategy, "settings": json.dumps({**strategy.set, **cell.each}, sort_keys=True)}
    result = workshop.result_folder(cell)
    row |= {"result": result.name, "evaluated": workshop.evaluation_folder(cell).name}
    row |= {"failure": lost or workshop.failure(cell)}
    if is_checkpoint(result):
        row["source_cost"] = workshop.source(cell.source).card.cost.passes
        card = read_card(result / CARD)
        row |= {
            "train_images": card.data["train"],
            "val_images": card.data["val"],
            "cost": card.cost.passes,
            "adversarial_examples": card.cost.adversarial_examples,
            "training_seconds": card.cost.seconds,
            "criterion": card.criterion,
            "mixture": bool(card.network.head.parts),
            "weights": card.weights_hash,
            "version": card.environment.get("versions", {}).get("robust-transfer"),
            "commit": card.environment.get("commit"),
        }
    if row["failure"] is None:
        found = load_figures(workshop.evaluation_folder(cell))
        shares: dict[str, Proportion | None] = {"clean": found.clean_accuracy, "robust": found.robust_accuracy}
        shares |= {"balanced_clean": found.balanced_clean_accuracy, "balanced_robust": found.balanced_robust_accuracy}
        shares |= {f"{ALSO}{one.threat}": one.robust_accuracy for one in found.further}
        shares["corrupted"] = found.corrupted.accuracy if found.corrupted is not None else None
        for level, share in shares.items():  # evaluations of earlier versions have no balanced ones
            if share is not None:
                row |= {level: share.value, f"{level}_low": share.low, f"{level}_high": share.high}
        row |= {
            "n": found.robust_accuracy.n,
            "constant": found.constant_accuracy,
            "threat": found.threat,
            "attack": found.attack,
            "precision": found.precision,
            "evaluation_passes": found.passes,
            "evaluation_seconds": found.seconds,
            "flags": "; ".join(found.flags),
        }
        if (beside := found.transferred) is not None:
            row |= {
                "transfer_attack_examples": beside.n,
                "through_source": _value(beside.source_features),
                "feature_loss": _value(beside.feature_loss),
                "unseen": beside.unseen.value,
                "unseen_threat": beside.unseen_threat,
                "feature_drift": beside.feature_drift,
                "source_feature_drift": beside.source_feature_drift,
            }
            if beside.through_parts is not None:  # of mixtures
                row["through_parts"] = beside.through_parts.value
    return row


def _value(share: Proportion | None) -> float | None:
    return share.value if share is not None else None
