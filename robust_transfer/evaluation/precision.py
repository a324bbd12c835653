"""Precision of an evaluation's attack steps, and disagreements with float32."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from pyarrow import ArrowInvalid
from torch import Tensor, nn

from robust_transfer.attacks import Attack
from robust_transfer.data import Split
from robust_transfer.engine import Engine
from robust_transfer.evaluation.effort import effort
from robust_transfer.evaluation.outcomes import EVALUATION, OUTCOMES, Outcomes
from robust_transfer.evaluation.resume import goes_on
from robust_transfer.files import read_table
from robust_transfer.modes import on_device
from robust_transfer.run import Run
from robust_transfer.texts import read_json
from robust_transfer.trials import choose, sample_size


def engine_for(module: nn.Module, split: Split, run: Run, attacks: Sequence[Attack]) -> Engine:
    """Engine of the attacks' steps: chosen on a sample of ``split``; a resumed evaluation keeps its own."""
    begun = _begun(run.out) if run.out is not None and run.resume else None
    if begun is not None and run.precision == "auto":
        precision, compiled = begun
        return Engine(torch.bfloat16 if precision == "bfloat16" else torch.float32, compiled=compiled)
    device = run.torch_device()
    size = sample_size(device, split.size, run)
    with ExitStack() as stack:

        def sample() -> tuple[Tensor, Tensor]:
            stack.enter_context(on_device(module, device))
            some = split.sample(size, seed=run.seed, purpose="precision")
            return some.subset(torch.arange(size) % len(some)).on(device)[:2]

        return choose(module, sample, run, passes=len(split) * effort(attacks))


def without_repetition(attacks: Sequence[Attack], engine: Engine) -> list[Attack]:
    """``attacks`` without float32 repetitions of steps that were float32 already."""
    if engine.dtype is not torch.float32:
        return list(attacks)
    done = {str(attack) for attack in attacks if attack.precision == "auto"}
    return [a for a in attacks if a.precision == "auto" or str(dataclasses.replace(a, precision="auto")) not in done]


def disagreement(engine: Engine, found: Outcomes) -> dict[str, int] | None:
    """Disagreements between float32 and the steps' precision; None where they are the same."""
    if engine.dtype is torch.float32:
        return None
    return {"unconfirmed_iterates": found.unconfirmed, "missed_examples": found.missed}


def _begun(out: Path) -> tuple[str, bool] | None:
    """Precision of the evaluation in ``out``, finished or not, and whether its steps are compiled."""
    try:
        if goes_on(out):
            how = read_table(out / "state" / OUTCOMES).attrs["identity"]
        else:
            how = read_json(out / EVALUATION)
        return str(how["precision"]), bool(how.get("compiled", False))
    except (OSError, ArrowInvalid, ValueError, KeyError, TypeError):
        return None  # there is none, or it is refused later on
