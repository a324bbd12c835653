"""What became of every example of a split: the loop over batches, which goes on where it was cut short."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pyarrow import ArrowInvalid
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import nn

from robust_transfer.attacks.base import Attack, Knowledge
from robust_transfer.attacks.deltas import DELTAS, pack
from robust_transfer.attacks.worst_case import STANDS, WRONG_WHEN_CLEAN, worst_case
from robust_transfer.checkpoint import CARD
from robust_transfer.config import difference
from robust_transfer.data import Split, to_pixels
from robust_transfer.errors import OutputError
from robust_transfer.run import Run, write_atomically, write_json
from robust_transfer.threat import Threat

EVALUATION, OUTCOMES = "evaluation.json", "outcomes.parquet"
STANDING, CLEAN = "", "clean"  # values of broken_by beside the attacks' names
COLUMNS = {
    "index": "int64",
    "label": "int64",
    "clean_prediction": "int64",
    "adversarial_prediction": "int64",
    "broken_by": "str",
    "margin": "float32",
}
BATCH = {"cpu": 256, "cuda": 1024}


@dataclass
class Outcomes:
    """A row an example (see :data:`COLUMNS`), and what they cost: forward-equivalent image passes and seconds."""

    table: pd.DataFrame
    passes: int = 0
    seconds: float = 0.0


def attack_split(
    attacks: Sequence[Attack],
    model: nn.Module,
    split: Split,
    threat: Threat,
    run: Run,
    *,
    batch_size: int | None = None,
    knowledge: Knowledge | None = None,
    keep_deltas: bool = False,
    identity: dict[str, Any] | None = None,
) -> Outcomes:
    """Attack every image of ``split``, in its order, by someone with this ``knowledge``.

    With ``run.out`` what is known is written there after each batch; with ``run.resume`` it is read back, if its
    ``identity`` is the same (:class:`OutputError` if not); with ``keep_deltas`` the adversarial images, too, as part files.
    The model is on ``run``'s device meanwhile.
    """
    device, state = run.torch_device(), run.out / "state" if run.out is not None else None
    done = (read_state(state, identity or {}) if state is not None and run.resume else None) or _nothing()
    names = {STANDS: STANDING, WRONG_WHEN_CLEAN: CLEAN, **{i: str(attack) for i, attack in enumerate(attacks)}}
    rest = split.subset(torch.arange(len(done.table), len(split)))
    with on_device(model, device), _bar(len(split), len(done.table), run.quiet) as bar:
        for images, labels, ids in rest.batches(batch_size or BATCH.get(device.type, 256)):
            begun = time.perf_counter()
            x, y, i = to_pixels(images, device), labels.to(device), ids.to(device)
            worst = worst_case(attacks, model, x, y, i, threat, seed=run.seed, dtype=run.dtype(), knowledge=knowledge)
            columns = (
                ids,
                labels,
                worst.result.clean_prediction.cpu(),
                worst.result.prediction.cpu(),
                [names[by] for by in worst.by.tolist()],
                worst.result.margin.cpu().numpy(),
            )
            if state is not None and keep_deltas:
                part = pack(model, x, y, i, worst.result, threat)
                name = f"deltas-{len(done.table):09d}.parquet"
                write_atomically(state / name, partial(part.to_parquet, index=False, compression="zstd"))
            rows = pd.DataFrame(dict(zip(COLUMNS, columns, strict=True))).astype(COLUMNS)
            done.table = pd.concat([done.table, rows], ignore_index=True)
            done.passes += worst.result.passes
            done.seconds += time.perf_counter() - begun
            if state is not None:
                spent = {"passes": done.passes, "seconds": done.seconds}
                write_outcomes(state, {"identity": identity, "rows": len(done.table), **spent}, done.table)
            bar.update(bar.task_ids[0], completed=len(done.table))
    return done


def write_outcomes(folder: Path, summary: dict[str, Any], table: pd.DataFrame) -> None:
    """Write a table and then the JSON that vouches for it, each atomically; raises :class:`OutputError`."""
    write_atomically(folder / OUTCOMES, lambda path: table.to_parquet(path, index=False))
    write_json(folder / EVALUATION, summary)


def read_state(state: Path, identity: dict[str, Any]) -> Outcomes | None:
    """What an evaluation that was cut short has written, None where there is nothing; refuses another evaluation's."""
    if not (state / EVALUATION).exists():
        return None
    try:
        summary = json.loads((state / EVALUATION).read_text(encoding="utf-8"))
        table = pd.read_parquet(state / OUTCOMES)[: int(summary["rows"])].astype(COLUMNS)
        passes, seconds, saved = int(summary["passes"]), float(summary["seconds"]), dict(summary["identity"])
    except (OSError, ArrowInvalid, ValueError, KeyError, TypeError) as error:
        raise OutputError(f"{state} is damaged ({type(error).__name__}): begin again with --overwrite") from None
    refuse_another(state.parent, saved, identity)
    return Outcomes(table, passes, seconds)


def prepare_out(run: Run) -> None:
    """Check the output folder and, with ``overwrite``, empty it; a model's own folder loses only its evaluation."""
    if run.out is None or not (run.out / CARD).exists():
        run.prepare_out()
        return
    if (run.out / EVALUATION).exists() and not (run.overwrite or run.resume):
        raise OutputError(f"{run.out} already holds an evaluation: give another --out, or --overwrite, or --resume")
    if run.overwrite:
        for name in (EVALUATION, DELTAS):
            (run.out / name).unlink(missing_ok=True)
        discard_state(run.out)


def refuse_another(out: Path, saved: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise :class:`OutputError` where ``out`` belongs to another evaluation than the wanted one."""
    if (found := difference(saved, wanted)) is not None:
        name, was, now = found
        raise OutputError(
            f"the evaluation in {out} has {name} {was!r}, this one {now!r}: give another --out, or --overwrite"
        )


def discard_state(out: Path) -> None:
    """Remove what an unfinished evaluation has written; other files stay."""
    for path in (out / "state" / EVALUATION, out / "state" / OUTCOMES, *(out / "state").glob("deltas-*.parquet")):
        path.unlink(missing_ok=True)
    if (out / "state").is_dir() and not any((out / "state").iterdir()):
        (out / "state").rmdir()


def _nothing() -> Outcomes:
    return Outcomes(pd.DataFrame({name: [] for name in COLUMNS}).astype(COLUMNS))


@contextmanager
def on_device(model: nn.Module, device: torch.device) -> Iterator[None]:
    """``model`` on ``device`` inside the block, and back where it was afterwards."""
    before = next((t.device for t in (*model.parameters(), *model.buffers())), device)
    model.to(device)
    try:
        yield
    finally:
        model.to(before)


@contextmanager
def _bar(total: int, completed: int, hidden: bool) -> Iterator[Progress]:
    """A progress bar with the time left, on standard error."""
    columns = (TextColumn("attack"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=hidden) as bar:
        bar.add_task("attack", total=total, completed=completed)
        yield bar
