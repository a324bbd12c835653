"""Too little memory: played by an error as CUDA raises it, and real, by a limit on a child process's address space."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from helpers import make_classifier, make_digits
from record import Count
from torch import Tensor, nn
from typing_extensions import override

from robust_transfer.attacks import PGD
from robust_transfer.data import to_pixels
from robust_transfer.run import Run
from robust_transfer.threat import Threat
from robust_transfer.training import Batch, NaturalObjective, TrainingSettings, fit

Case = Mapping[str, Any]
RUN = Run(precision="float32", quiet=True, device="cpu")
HOW = TrainingSettings(epochs=0.5, batch_size=64, learning_rate=0.05, augment=False)
# A command within what it has taken by itself and so many MiB more.
CHILD = """
import resource, sys
import torch, torch._dynamo
from robust_transfer import cli, load_source
from robust_transfer.strategies import STRATEGIES
load_source("bundled").classifier(torch.rand(2, 3, 32, 32)).sum().backward()
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
most = held + int(sys.argv.pop(1)) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (most, most))
cli.main()
"""


class Tight(NaturalObjective):
    """Natural training on a device with memory for ``most`` images."""

    def __init__(self, most: int) -> None:
        super().__init__(make_classifier(), collapse_patience=400)
        self.classifier.hold_batch_norm = True
        self.most = most

    @override
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        refuse(len(batch.labels), self.most)
        return super().forward(batch)


class TightModel(nn.Module):
    """Network on such a device."""

    def __init__(self, network: nn.Module, most: int) -> None:
        super().__init__()
        self.network, self.most = network, most

    @override
    def forward(self, x: Tensor) -> Tensor:
        refuse(len(x), self.most)
        found: Tensor = self.network(x)
        return found


def refuse(count: int, most: int) -> None:
    if count > most:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


def played(seed: int, times: int = 6) -> Iterator[Case]:
    """Trainings and attacks whose batches do not fit; what they differ by from those with memory for all."""
    task, draw = make_digits(), random.Random(seed)
    wanted = fit(Tight(10**9), task.train, HOW, RUN).classifier.state_dict()
    network, x = make_classifier(seed=3).eval(), to_pixels(task.train.images())[:96]
    attacked = x, network(x).argmax(1), torch.arange(96), Threat(norm="linf", eps=0.02)
    plain = PGD(steps=5)(network, *attacked)
    for _ in range(times):
        most = draw.randrange(1, 64)
        found = fit(Tight(most), task.train, HOW, RUN)
        state = found.classifier.state_dict()
        apart = max(float((state[name].double() - wanted[name].double()).abs().max()) for name in wanted)
        same = {"trouble": "memory, played", "most": most, "events": found.events, "apart": apart}
        result = PGD(steps=5)(TightModel(network, min(most, 15)), *attacked)
        yield {**same, "other_verdicts": int((result.broken != plain.broken).sum()), "broken": int(plain.broken.sum())}


def limited(times: int, seed: int) -> Iterator[Case]:
    """Commands under a real limit, which is lower from one to the next."""
    for number in range(times):
        mib = (800, 300, 150, 50)[number % 4]
        with tempfile.TemporaryDirectory() as folder:
            words = ["transfer", "--source", "bundled", "--data", "builtin:digits", "--strategy", "fine-tune"]
            words += [
                "--shots",
                "40",
                "--batch-size",
                "256",
                "--epochs",
                "1",
                "--precision",
                "float32",
                "--threads",
                "1",
            ]
            words += ["--seed", str(seed), "--out", f"{folder}/out"]
            command = [sys.executable, "-c", CHILD, str(mib), *words]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            parts = [int(found) for found in re.findall(r"(\d+) images at a time from here on", done.stderr)]
            yield {
                "trouble": "memory, limited",
                "mib": mib,
                "status": done.returncode,
                "parts": min(parts, default=None),
                "saved": (Path(folder) / "out" / "model.safetensors").exists(),
                "traceback": "Traceback" in done.stderr,
                "said": done.stderr.strip().splitlines()[-1:],
            }


def counts(cases: Sequence[Case]) -> tuple[Count, ...]:
    play = [c for c in cases if c["trouble"] == "memory, played"]
    real = [c for c in cases if c["trouble"] == "memory, limited"]
    saved = [c for c in real if c["status"] == 0]
    return (
        Count("trainings and attacks with a device's memory played too small", 2 * len(play)),
        Count("largest difference of a weight from training at once", max(c["apart"] for c in play)),
        Count("images with another verdict than at once", sum(c["other_verdicts"] for c in play), must_be=0),
        Count("commands within a real limit of memory", len(real)),
        Count("of them, went on to the end", len(saved)),
        Count("of these, in parts", sum(c["parts"] is not None for c in saved)),
        Count("ended otherwise than whole or in a sentence", sum(_badly(c) for c in real), must_be=0),
    )


def _badly(case: Case) -> bool:
    """True for a traceback, a death, or a network saved by a command that failed."""
    return bool(case["traceback"] or case["status"] not in (0, 2) or case["saved"] != (case["status"] == 0))
