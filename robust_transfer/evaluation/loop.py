"""Run attacks over a split, record per-example outcomes, resume after an interruption."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor, nn

from robust_transfer.attacks.base import AttackResult
from robust_transfer.data import Split
from robust_transfer.evaluation.adversary import Adversary
from robust_transfer.evaluation.deadline import Deadline
from robust_transfer.evaluation.deltas import pack
from robust_transfer.evaluation.effort import effort
from robust_transfer.evaluation.outcomes import Outcomes
from robust_transfer.evaluation.resume import read_state, write_state
from robust_transfer.files import write_bytes
from robust_transfer.modes import on_device
from robust_transfer.progress import stage
from robust_transfer.randomness import Address, permutation
from robust_transfer.run import Run

MIN_BATCH, MAX_BATCH = 128, 4096
BATCH_PIXELS = {"cpu": 2**21, "cuda": 2**22}  # of the images that are attacked at a time, in one channel


def attack_split(
    adversary: Adversary,
    model: nn.Module,
    split: Split,
    run: Run,
    *,
    keep_deltas: bool = False,
    identity: dict[str, Any] | None = None,
    deadline: Deadline | None = None,
) -> Outcomes:
    """Attack every image of ``split``, with each of the adversary's attacks on the survivors of the earlier ones.

    With ``run.out`` the state is written after each batch; with ``run.resume`` it is read back, if its ``identity``
    is the same (:class:`OutputError` if not); with ``keep_deltas`` the adversarial images, too, as part files. At the
    ``deadline`` (and after at least one batch) it stops; batches are then drawn at random, so that the outcomes so
    far are a fair sample, and are small enough to end in time. The model is on ``run``'s device meanwhile.
    """
    device, state = run.torch_device(), run.out / "state" if run.out is not None else None
    done = (read_state(state, identity or {}) if state is not None and run.resume else None) or Outcomes.of(split)
    size, limit = adversary.batch_size or usual_batch(device, split.size), deadline or Deadline()
    with on_device(model, device):
        for number, attack in enumerate(adversary.attacks):
            pending = torch.from_numpy(done.pending(number))
            if not len(pending):
                continue
            if limit.seconds is not None:
                address = Address(adversary.seed, "evaluation/time-limit", step=number)
                pending = pending[permutation(address, len(pending))]
            at, rows, seconds = 0, pending[:0], 0.0
            with stage(str(attack), len(pending), run.quiet, each=effort([attack])) as bar:
                while at < len(pending):
                    count = limit.fits(size, len(rows), seconds / max(len(rows), 1)) or (0 if done.passes else 1)
                    if not count:
                        return done
                    started, rows = time.perf_counter(), pending[at : at + count]
                    bar.begin(len(rows))
                    x, y, i = split.subset(rows).on(device)
                    result = adversary.run(attack, model, x, y, i)
                    worse = torch.from_numpy(done.note(rows.numpy(), str(attack), number, result)).to(device)
                    if state is not None and keep_deltas:
                        part = pack(model, x[worse], y[worse], i[worse], _of(result, worse), adversary.threat)
                        path = state / f"deltas-{done.parts:09d}.parquet"
                        write_bytes(path, part.to_parquet(index=False, compression="zstd"))
                        done.parts += 1
                    seconds = time.perf_counter() - started
                    at, done.seconds = at + len(rows), done.seconds + seconds
                    if state is not None:
                        write_state(state, done, identity)
                    bar.advance(len(rows))
    return done


def usual_batch(device: torch.device, size: int | None) -> int:
    """Number of images attacked at a time: as many as memory allows, since broken ones leave the batch."""
    return max(MIN_BATCH, min(MAX_BATCH, BATCH_PIXELS.get(device.type, 2**21) // (size or 224) ** 2))


def _of(result: AttackResult, mask: Tensor) -> AttackResult:
    """Result of a subset of the examples."""
    return AttackResult(
        adversarial=result.adversarial[mask],
        broken=result.broken[mask],
        margin=result.margin[mask],
        clean_prediction=result.clean_prediction[mask],
        prediction=result.prediction[mask],
        passes=result.passes,
    )
