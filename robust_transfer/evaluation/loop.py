"""Run attacks over a split, record per-example outcomes, resume after an interruption."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from robust_transfer.attacks.base import Attack, AttackResult, Knowledge
from robust_transfer.data import Split, to_pixels
from robust_transfer.engine import Engine
from robust_transfer.evaluation.deadline import Deadline
from robust_transfer.evaluation.deltas import pack
from robust_transfer.evaluation.outcomes import Outcomes
from robust_transfer.evaluation.resume import read_state, write_state
from robust_transfer.files import write_atomically
from robust_transfer.modes import on_device
from robust_transfer.progress import progress_bars
from robust_transfer.randomness import Address, permutation
from robust_transfer.run import Run
from robust_transfer.threat import Threat

FEWEST, MOST = 128, 4096
PIXELS = {"cpu": 2**21, "cuda": 2**22}  # of the images that are attacked at a time, in one channel


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
                result = attack(model, x, y, i, threat, seed=run.seed, engine=engine, knowledge=knowledge)
                worse = torch.from_numpy(done.note(rows.numpy(), str(attack), number, result)).to(device)
                if state is not None and keep_deltas:
                    part = pack(model, x[worse], y[worse], i[worse], _of(result, worse), threat)
                    path = state / f"deltas-{done.parts:09d}.parquet"
                    write_atomically(path, partial(part.to_parquet, index=False, compression="zstd"))
                    done.parts += 1
                seconds = time.perf_counter() - begun
                at, done.seconds = at + len(rows), done.seconds + seconds
                if state is not None:
                    write_state(state, done, identity)
                bar.update(shown, advance=len(rows))
    return done


def usual_batch(device: torch.device, size: int | None) -> int:
    """How many images are attacked at a time: many, since those that are broken leave, as far as memory goes."""
    return max(FEWEST, min(MOST, PIXELS.get(device.type, 2**21) // (size or 224) ** 2))


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
