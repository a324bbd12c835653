"""Passes are halved where memory runs out, for real and on a GPU that is played."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from attack_helpers import LINF, Batch, first
from children import with_helpers
from torch import Tensor, nn

from robust_transfer.attacks import PGD
from robust_transfer.errors import MemoryLimitError
from robust_transfer.halving import Halving, ran_out


@pytest.mark.parametrize(
    ("error", "known"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory"),
            True,
        ),
        (RuntimeError("could not create a primitive"), True),  # oneDNN's, within a real limit
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"), True),
        (RuntimeError("expected scalar type Float"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_errors_of_memory(error: Exception, known: bool) -> None:
    assert ran_out(error) is known


def limited(most: int, seen: list[int]) -> Callable[[slice], list[int]]:
    def compute(rows: slice) -> list[int]:
        seen.append(rows.stop - rows.start)
        if rows.stop - rows.start > most:
            raise MemoryError
        return list(range(100))[rows]

    return compute


def test_rows_come_in_order_in_parts_that_fit_and_no_size_fails_twice() -> None:
    halving, seen = Halving(), list[int]()
    for _ in range(2):
        parts = halving.over(20, (3,), limited(6, seen))
        assert [row for part in parts for row in part] == list(range(20))
    assert seen == [20, 10, 5, 5, 5, 5, 5, 5, 5, 5]
    seen.clear()
    halving.over(20, (1,), limited(100, seen))
    assert seen == [20], "rows of another shape are another matter"
    assert halving.over(0, (3,), limited(6, seen)) == [[]]
    with pytest.raises(MemoryLimitError, match="a pass of 1 image does not fit in memory"):
        halving.over(4, (2,), limited(0, seen))


def test_an_attack_goes_on_with_the_same_verdicts(network: nn.Module, batch: Batch) -> None:
    class Tight(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.sizes = list[int]()

        def forward(self, x: Tensor) -> Tensor:
            self.sizes.append(len(x))
            if len(x) > 10:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            found: Tensor = network(x)
            return found

    x, labels, ids = first(batch, 60)
    wanted, tight = PGD(steps=5)(network, x, labels, ids, LINF), Tight()
    found = PGD(steps=5)(tight, x, labels, ids, LINF)
    assert torch.equal(found.broken, wanted.broken)
    assert found.passes == wanted.passes
    assert len([size for size in tight.sizes if size > 10]) == 1
    assert wanted.broken.any()
    assert not wanted.broken.all()


PROGRAM = """
import resource, sys
import torch
from helpers import make_digits, make_classifier
from robust_transfer.run import Run
from robust_transfer.training import NaturalObjective, TrainingSettings, fit

task = make_digits(train=128, val=10, test=10, size=64)
objective = NaturalObjective(make_classifier(size=64), 400)
objective.classifier.hold_batch_norm = True
run = Run(precision="float32", quiet=True, device="cpu")
how = TrainingSettings(epochs=1, batch_size=128, learning_rate=0.01, augment=False)
few = task.train.subset(torch.arange(4))
fit(NaturalObjective(make_classifier(size=64), 400), few, how, run)  # what is imported on the way is no part of the limit
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[1]) * 2**20,) * 2)
result = fit(objective, task.train, how, run)
print(result.events)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS")
@pytest.mark.parametrize(("mib", "told"), [(250, "images at a time from here on"), (8000, "()")])
def test_a_real_limit(mib: int, told: str) -> None:
    """128 images of 64 pixels take more than 250 MiB for a step: they are taken in parts."""
    command = [sys.executable, "-c", PROGRAM, str(mib)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=with_helpers())
    assert done.returncode == 0, done.stderr[-2000:]
    assert told in done.stdout
