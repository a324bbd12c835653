"""State of an unfinished evaluation in its output folder: written after each batch, read back by --resume."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from pyarrow import ArrowInvalid

from robust_transfer.checkpoint import CARD, read_card
from robust_transfer.config import difference
from robust_transfer.errors import OutputError
from robust_transfer.evaluation.deltas import DELTAS
from robust_transfer.evaluation.outcomes import COLUMNS, EVALUATION, OUTCOMES, Outcomes, dtype_of
from robust_transfer.files import read_table, write_bytes
from robust_transfer.run import Run
from robust_transfer.run_folder import replacing

COUNTS = ("passes", "unconfirmed", "missed", "seconds", "parts")


def write_state(state: Path, done: Outcomes, identity: dict[str, Any] | None) -> None:
    """Write the state in one file, so that outcomes and cost are always of the same moment."""
    table = pd.DataFrame(done.rows)
    table.attrs = {"identity": identity, **{name: getattr(done, name) for name in COUNTS}}
    write_bytes(state / OUTCOMES, table.to_parquet(index=False))


def read_state(state: Path, identity: dict[str, Any]) -> Outcomes | None:
    """Read the state of an interrupted evaluation, None if there is none; refuses another evaluation's."""
    if not (state / OUTCOMES).exists():
        return None
    try:
        table = read_table(state / OUTCOMES)
        rows = {name: table[name].to_numpy(dtype_of(name), copy=True) for name in (*COLUMNS, "faced")}
        saved, counts = dict(table.attrs["identity"]), {name: table.attrs[name] for name in COUNTS}
    except (OSError, ArrowInvalid, ValueError, KeyError, TypeError) as error:
        raise OutputError(f"{state} is damaged ({type(error).__name__}): begin again with --overwrite") from None
    refuse_another(state.parent, saved, identity)
    return Outcomes(rows, **counts)


def prepare_out(run: Run, weights: str | None) -> None:
    """Check the output folder; with ``overwrite`` the first write empties it.

    The folder of the model itself, whose stored ``weights`` have this hash, loses only its evaluation.
    """
    if run.out is None or not (run.out / CARD).exists() or read_card(run.out / CARD).weights_hash != weights:
        run.prepare_out()
        return
    if (run.out / EVALUATION).exists() and not (run.overwrite or run.resume):
        raise OutputError(f"{run.out} already holds an evaluation: give another --out, or --overwrite, or --resume")
    if run.overwrite:
        replacing(run.out, partial(_discard, run.out))


def _discard(out: Path) -> None:
    for name in (EVALUATION, DELTAS):
        (out / name).unlink(missing_ok=True)
    discard_state(out)


def refuse_another(out: Path, saved: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise :class:`OutputError` where ``out`` belongs to another evaluation."""
    if (found := difference(saved, wanted)) is not None:
        name, was, now = found
        raise OutputError(
            f"the evaluation in {out} has {name} {was!r}, this one {now!r}: give another --out, or --overwrite"
        )


def goes_on(out: Path) -> bool:
    """True if ``out`` holds an evaluation that its time limit stopped."""
    return (out / "state" / OUTCOMES).exists()


def certificate_state(out: Path, name: str) -> Path:
    """File in which an unfinished certificate keeps what it has found."""
    return out / "state" / f"certificate-{name}.parquet"


def discard_state(out: Path) -> None:
    """Remove the files of an unfinished evaluation; other files stay."""
    parts = (path for kind in ("deltas", "certificate") for path in (out / "state").glob(f"{kind}-*.parquet"))
    for path in (out / "state" / OUTCOMES, *parts):
        path.unlink(missing_ok=True)
    if (out / "state").is_dir() and not any((out / "state").iterdir()):
        (out / "state").rmdir()
