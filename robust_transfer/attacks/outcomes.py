"""What became of every example of a split: the loop over batches, which goes on where it was cut short."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pyarrow import ArrowInvalid
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from robust_transfer.attacks.base import Attack, AttackResult, Knowledge
from robust_transfer.attacks.deadline import Deadline
from robust_transfer.attacks.deltas import DELTAS, pack
from robust_transfer.checkpoint import CARD, read_card
from robust_transfer.config import difference
from robust_transfer.data import Split, to_pixels
from robust_transfer.engine import Engine
from robust_transfer.errors import OutputError
from robust_transfer.files import write_atomically, write_json
from robust_transfer.randomness import Address, permutation
from robust_transfer.run import Run
from robust_transfer.threat import Threat

EVALUATION, OUTCOMES = "evaluation.json", "outcomes.parquet"
STANDING, CLEAN, UNTESTED = "", "clean", "?"  # values of broken_by beside the attacks' names
COLUMNS = {
    "index": "int64",
    "label": "int64",
    "clean_prediction": "int64",
    "adversarial_prediction": "int64",
    "broken_by": "str",
    "margin": "float32",
}
COUNTS = ("passes", "unconfirmed", "missed", "seconds", "parts")
FEWEST, MOST = 128, 4096
PIXELS = {"cpu": 2**21, "cuda": 2**22}  # of the images that are attacked at a time, in one channel


@dataclass
class Outcomes:
    """What is known of every example of a split (see :data:`COLUMNS`), and what finding it out has cost.

    ``rows`` has an array a column, and ``faced``: how many of the attacks an example has been through. ``passes`` are
    forward-equivalent image passes; ``unconfirmed`` and ``missed`` as in :class:`AttackResult`. ``parts`` counts the
    blocks of adversarial images that were written.
    """

    rows: dict[str, NDArray[Any]]
    passes: int = 0
    unconfirmed: int = 0
    missed: int = 0
    seconds: float = 0.0
    parts: int = 0

    @classmethod
    def of(cls, split: Split) -> Outcomes:
        """Nothing is known yet."""
        n = len(split)
        blank = {"clean_prediction": -1, "adversarial_prediction": -1, "broken_by": UNTESTED, "margin": np.nan}
        known = {"index": split.ids.numpy().copy(), "label": split.labels.numpy().copy()}
        rows = {**known, **{name: np.full(n, value, _dtype(name)) for name, value in blank.items()}}
        return cls({**rows, "faced": np.zeros(n, np.int64)})

    @property
    def table(self) -> pd.DataFrame:
        """A row for each example that has faced an attack at all."""
        return pd.DataFrame({name: self.rows[name][self.reached] for name in COLUMNS}).astype(COLUMNS)

    @property
    def reached(self) -> NDArray[np.int64]:
        """The rows that have faced an attack at all."""
        return np.flatnonzero(self.rows["faced"] > 0)

    @property
    def used(self) -> int:
        """How many of the attacks have been run at all, on something or on nothing that was left."""
        faced = self.rows["faced"]
        waiting = (self.rows["broken_by"] == STANDING) | (self.rows["broken_by"] == UNTESTED)
        return int(faced.max(initial=0)) if waiting.any() else sys.maxsize

    def unreached(self, attacks: Sequence[Attack]) -> dict[str, int]:
        """How many examples each attack has still to attack, where the evaluation was stopped."""
        standing = (self.rows["broken_by"] == STANDING) | (self.rows["broken_by"] == UNTESTED)
        left = {str(a): int((standing & (self.rows["faced"] <= number)).sum()) for number, a in enumerate(attacks)}
        return {name: count for name, count in left.items() if count}

    def pending(self, number: int) -> NDArray[np.int64]:
        """The rows that attack ``number`` has still to attack: what the earlier ones left."""
        waiting = self.rows["faced"] == number
        return np.flatnonzero(waiting & (self.rows["broken_by"] == STANDING) if number else waiting)

    def note(self, rows: NDArray[np.int64], name: str, number: int, result: AttackResult) -> NDArray[np.bool_]:
        """What attack ``number``, called ``name``, did to ``rows``; returns where its images are the worst so far."""
        broken, margin = result.broken.cpu().numpy(), result.margin.cpu().numpy()
        labels = self.rows["label"][rows]
        if number == 0:
            clean = result.clean_prediction.cpu().numpy()
            self.rows["clean_prediction"][rows] = clean
            worse = np.ones(len(rows), bool)
            fate = np.where(clean != labels, CLEAN, np.where(broken, name, STANDING))
        else:
            worse = broken | (margin > self.rows["margin"][rows])
            fate = np.where(broken, name, STANDING)
        self.rows["broken_by"][rows] = fate
        self.rows["margin"][rows[worse]] = margin[worse]
        prediction = np.where(broken, result.prediction.cpu().numpy(), labels)
        self.rows["adversarial_prediction"][rows] = prediction
        self.rows["faced"][rows] = number + 1
        self.passes += result.passes
        self.unconfirmed += result.unconfirmed
        self.missed += result.missed
        return worse


def attack_split(
    attacks: Sequence[Attack],
    model: nn.Module,
    split: Split,
    threat: Threat,
    run: Run,
    *,
    engine: Engine | None = None,
    batch_size: int | None = None,
    knowledge: Knowledge | None = None,
    keep_deltas: bool = False,
    identity: dict[str, Any] | None = None,
    deadline: Deadline | None = None,
) -> Outcomes:
    """Attack every image of ``split`` by someone with this ``knowledge``: each attack on all that the earlier ones left.

    ``engine`` computes the steps (by default in float32).
    With ``run.out`` what is known is written there after each batch; with ``run.resume`` it is read back, if its
    ``identity`` is the same (:class:`OutputError` if not); with ``keep_deltas`` the adversarial images, too, as part files.
    At the ``deadline`` (and after at least one batch) it stops where it is; batches are then drawn at random, so that what
    is known by then is a fair sample, and are small enough to end in time. The model is on ``run``'s device meanwhile.
    """
    device, state = run.torch_device(), run.out / "state" if run.out is not None else None
    done = (read_state(state, identity or {}) if state is not None and run.resume else None) or Outcomes.of(split)
    engine = engine or Engine()
    size, deadline = batch_size or usual_batch(device, split.size), deadline or Deadline()
    with on_device(model, device), progress_bars(run.quiet) as bar:
        for number, attack in enumerate(attacks):
            pending = torch.from_numpy(done.pending(number))
            if not len(pending):
                continue
            if deadline.seconds is not None:
                address = Address(run.seed, "evaluation/budget", step=number)
                pending = pending[permutation(address, len(pending))]
            shown = bar.add_task(str(attack), total=len(pending))
            at, rows, seconds = 0, pending[:0], 0.0
            while at < len(pending):
                count = deadline.fits(size, len(rows), seconds / max(len(rows), 1)) or (0 if done.passes else 1)
                if not count:
                    return done
                begun, rows = time.perf_counter(), pending[at : at + count]
                some = split.subset(rows)
                x, y, i = to_pixels(some.images(), device), some.labels.to(device), some.ids.to(device)
                result = attack_block(attack, model, x, y, i, threat, seed=run.seed, engine=engine, knowledge=knowledge)
                worse = torch.from_numpy(done.note(rows.numpy(), str(attack), number, result)).to(device)
                if state is not None and keep_deltas:
                    part = pack(model, x[worse], y[worse], i[worse], _of(result, worse), threat)
                    path = state / f"deltas-{done.parts:09d}.parquet"
                    write_atomically(path, partial(part.to_parquet, index=False, compression="zstd"))
                    done.parts += 1
                seconds = time.perf_counter() - begun
                at, done.seconds = at + len(rows), done.seconds + seconds
                if state is not None:
                    _write_state(state, done, identity)
                bar.update(shown, advance=len(rows))
    return done


def usual_batch(device: torch.device, size: int | None) -> int:
    """How many images are attacked at a time: many, since those that are broken leave, as far as memory goes."""
    return max(FEWEST, min(MOST, PIXELS.get(device.type, 2**21) // (size or 224) ** 2))


def attack_block(attack: Attack, *arguments: Any, **settings: Any) -> AttackResult:
    """One attack on one batch."""
    return attack(*arguments, **settings)


def _of(result: AttackResult, mask: Tensor) -> AttackResult:
    """The result of some of the examples."""
    return AttackResult(
        adversarial=result.adversarial[mask],
        broken=result.broken[mask],
        margin=result.margin[mask],
        clean_prediction=result.clean_prediction[mask],
        prediction=result.prediction[mask],
        passes=result.passes,
    )


def _write_state(state: Path, done: Outcomes, identity: dict[str, Any] | None) -> None:
    """One file, so that what was found and what it cost are never of two moments."""
    table = pd.DataFrame(done.rows)
    table.attrs = {"identity": identity, **{name: getattr(done, name) for name in COUNTS}}
    write_atomically(state / OUTCOMES, lambda path: table.to_parquet(path, index=False))


def write_outcomes(folder: Path, summary: dict[str, Any], table: pd.DataFrame) -> None:
    """Write a table and then the JSON that vouches for it, each atomically; raises :class:`OutputError`."""
    write_atomically(folder / OUTCOMES, lambda path: table.to_parquet(path, index=False))
    write_json(folder / EVALUATION, summary)


def read_state(state: Path, identity: dict[str, Any]) -> Outcomes | None:
    """What an evaluation that was cut short has written, None where there is nothing; refuses another evaluation's."""
    if not (state / OUTCOMES).exists():
        return None
    try:
        table = pd.read_parquet(state / OUTCOMES)
        rows = {name: table[name].to_numpy(_dtype(name), copy=True) for name in (*COLUMNS, "faced")}
        saved, counts = dict(table.attrs["identity"]), {name: table.attrs[name] for name in COUNTS}
    except (OSError, ArrowInvalid, ValueError, KeyError, TypeError) as error:
        raise OutputError(f"{state} is damaged ({type(error).__name__}): begin again with --overwrite") from None
    refuse_another(state.parent, saved, identity)
    return Outcomes(rows, **counts)


def _dtype(name: str) -> Any:
    return object if COLUMNS.get(name) == "str" else COLUMNS.get(name, "int64")


def prepare_out(run: Run, weights: str | None) -> None:
    """Check the output folder and, with ``overwrite``, empty it; the folder of the model itself, whose stored ``weights``
    have this hash, loses only its evaluation.
    """
    if run.out is None or not (run.out / CARD).exists() or read_card(run.out / CARD).weights_hash != weights:
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


def goes_on(out: Path) -> bool:
    """Whether what is in ``out`` was stopped by its budget and has not been finished since."""
    return (out / "state" / OUTCOMES).exists()


def discard_state(out: Path) -> None:
    """Remove what an unfinished evaluation has written; other files stay."""
    for path in (out / "state" / OUTCOMES, *(out / "state").glob("deltas-*.parquet")):
        path.unlink(missing_ok=True)
    if (out / "state").is_dir() and not any((out / "state").iterdir()):
        (out / "state").rmdir()


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
def progress_bars(hidden: bool) -> Iterator[Progress]:
    """Progress bars, each with a count and the time left, on standard error."""
    what = TextColumn("{task.description}")
    columns = (what, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=hidden) as bar:
        yield bar
