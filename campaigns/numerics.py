"""Numerical trouble: numbers that are not finite, attention in half precision, too little memory, odd data.

python campaigns/numerics.py [--cifar10 PATH] [--faults 18] [--memory 4] [--seed 0]

Writes docs/survival/numerics.json. Without --cifar10 honest and odd data are digits alone.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import attention
import odd
import scarce
import torch
from blind import verdicts
from helpers import make_classifier, make_digits
from record import Count, Record
from spoiling import KINDS, VALUES, Spoil, Spoilt

from robust_transfer.data import Task
from robust_transfer.errors import RobustTransferError
from robust_transfer.run import Run
from robust_transfer.training import TrainingSettings, fit

Case = Mapping[str, Any]
HOW = TrainingSettings(epochs=1, batch_size=40, learning_rate=0.5, schedule="constant", augment=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", type=Path, help="a folder of CIFAR-10")
    parser.add_argument("--faults", type=int, default=18, help="numbers put into trainings")
    parser.add_argument("--memory", type=int, default=4, help="commands with a limit on their memory")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    trained = list(shown(faults(given.faults, given.seed)))
    half, blind = list(shown(attention.cases())), list(shown(verdicts(given.seed)))
    memory = [*shown(scarce.played(given.seed)), *shown(scarce.limited(given.memory, given.seed))]
    data = list(shown(odd.cases(given.cifar10, given.seed)))
    counts = (
        *of_faults(trained),
        *attention.counts(half),
        *of_verdicts(blind),
        *scarce.counts(memory),
        *odd.counts(data),
    )
    record = Record(
        "numerics", "Numerical trouble", counts, given.seed, cases=(*trained, *half, *blind, *memory, *data)
    )
    print(record.write())


def shown(cases: Iterator[Case]) -> Iterator[Case]:
    for case in cases:
        print({name: str(value)[:100] for name, value in case.items()}, flush=True)
        yield case


def faults(count: int, seed: int) -> Iterator[Case]:
    """Trainings of a small network on digits, eight steps each, a number put into each."""
    task, draw = make_digits(), random.Random(seed)
    for number in range(count):
        low_only = number % 4 == 3
        precision = "bfloat16" if low_only else draw.choice(("float32", "bfloat16"))
        kind = KINDS[number % len(KINDS)]
        spoil = Spoil(kind, draw.randrange(8), draw.choice(VALUES), draw.randrange(1000), low_only)
        with tempfile.TemporaryDirectory() as folder:
            run = Run(precision=precision, quiet=True, device="cpu", out=Path(folder))  # type: ignore[arg-type]
            facts = {**vars(spoil), "value": str(spoil.value), "precision": precision}
            yield {"trouble": "fault", **facts, **outcome(task, spoil, run)}


def outcome(task: Task, spoil: Spoil, run: Run) -> Case:
    """What came of a training: how it ended, whether in the step of the fault, and whether that step repeats."""
    first, where = attempt(task, spoil, run), f"step {spoil.step}"
    again, _ = attempt(task, spoil, replace(run, resume=True, replay=True))
    assert run.out is not None
    return {
        "ended": first[0],
        "at_its_step": all(event.startswith(f"{where}: ") for event in first[1]) and bool(first[1]),
        "network": (run.out / "model.safetensors").exists(),
        "repeated": "the same as recorded, bit for bit" in again,
    }


def attempt(task: Task, spoil: Spoil, run: Run) -> tuple[str, Sequence[str]]:
    """How a training ended, and its events."""
    assert run.out is not None
    log = run.out / "metrics.jsonl"
    try:
        fit(Spoilt(make_classifier(), spoil), task.train, HOW, run)
        ended = "trained"
    except RobustTransferError as error:
        ended = str(error)
    events = [json.loads(line).get("event") for line in log.read_text().splitlines()]
    return ended, [event for event in events if event]


def of_faults(cases: Sequence[Case]) -> tuple[Count, ...]:
    lasting, low = ([c for c in cases if c["low_only"] is here] for here in (False, True))
    return (
        Count("numbers that are not finite put into trainings", len(cases)),
        Count("not noticed in their step", sum(not c["at_its_step"] for c in cases), must_be=0),
        Count("steps that did not repeat bit for bit", sum(not c["repeated"] for c in cases), must_be=0),
        Count("lasting ones after which training did not end", sum(c["ended"] == "trained" for c in lasting), must_be=0),
        Count("those in bfloat16 only, not taken again in float32", sum(c["ended"] != "trained" for c in low), must_be=0),
    )  # fmt: skip


def of_verdicts(cases: Sequence[Case]) -> tuple[Count, ...]:
    return (
        Count("attacks on networks whose gradient or logits are no numbers", len(cases)),
        Count("images called robust by them", sum(c["robust"] for c in cases), must_be=0),
    )


if __name__ == "__main__":
    main()
