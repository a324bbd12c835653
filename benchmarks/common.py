"""What the benchmarks share: interleaved repeats, medians, and a header that says on what they ran."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

from robust_transfer.classifier import Classifier, NetworkSpec
from robust_transfer.data import Split
from robust_transfer.environment import environment
from robust_transfer.preprocessing import Preprocessing
from robust_transfer.run import Run


def header(title: str, **facts: object) -> None:
    made = environment()
    versions = ", ".join(
        f"{k} {v}" for k, v in made["versions"].items() if k in ("python", "torch", "timm", "accelerate")
    )
    hardware = made["hardware"]
    print(
        f"{title}\n  {versions}\n  {hardware['gpu'] or hardware['cpu']}, {hardware['threads']} threads, {Run().dtype()}"
    )
    print("  " + ", ".join(f"{k} {v}" for k, v in facts.items()), flush=True)


def interleaved(tasks: dict[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """Median seconds of each task; the tasks take turns, so that a slow minute of the machine hits all of them."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repeats):
        for name, task in tasks.items():
            times[name].append(task())
    return {name: statistics.median(values) for name, values in times.items()}


def timed(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def random_split(n: int, classes: int, size: int = 32) -> Split:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, classes, (n,), generator=generator)
    return Split.in_memory(images, labels, tuple(str(i) for i in range(classes)))


def classifier(network: str, classes: int) -> Classifier:
    torch.manual_seed(0)
    return Classifier.build(NetworkSpec(name=network, num_classes=classes, preprocessing=Preprocessing(size=32)))
