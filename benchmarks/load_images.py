"""Loads a data set as a study does, and writes the seconds of CPU time of each step to a file, in JSON.

python benchmarks/load_images.py [FOLDER FILE]

A process of its own, whose peak memory is looked at: it imports nothing of the benchmarks. Without a folder it imports only.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

import robust_transfer as rt

T = TypeVar("T")
STEPS = (
    "look through, find copies, cut val",
    "hash the splits",
    "another task, of 10 shots a class",
    "read all of train once",
)


def load(folder: str) -> dict[str, float]:
    """Seconds of CPU time of the steps, the number of images, and whether they are read on demand."""
    data = rt.Dataset(folder)
    task, looked = _timed(lambda: data.task())
    hashed = _timed(lambda: (task.train.hash, task.val.hash, task.test.hash))[1]
    again = _timed(lambda: data.task(shots=10, seed=1).train.hash)[1]
    read = _timed(lambda: sum(int(images.sum()) for images, _, _ in task.train.batches(500)))[1]
    steps = dict(zip(STEPS, (looked, hashed, again, read), strict=True))
    return {**steps, "images": sum(map(len, (task.train, task.val, task.test))), "streamed": task.train.streamed}


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    begun = time.process_time()
    return work(), time.process_time() - begun


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) > 1:
        Path(sys.argv[2]).write_text(json.dumps(load(sys.argv[1])), encoding="utf-8")
