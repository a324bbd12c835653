"""Runs inside of a run: trainings on the way to a result, which go on where they were interrupted."""

from __future__ import annotations

import dataclasses
import shutil

from robust_transfer.launch import is_main_process
from robust_transfer.run import Run

INNER = "front"  # folder, inside of a run's, of the trainings that a result needs


def inside(run: Run, name: str) -> Run:
    """Run of one training on the way."""
    return run if run.out is None else dataclasses.replace(run, out=run.out / INNER / name, overwrite=False)


def discard(run: Run) -> None:
    """Remove what only an interrupted run would have needed."""
    if run.out is not None and is_main_process():
        shutil.rmtree(run.out / INNER, ignore_errors=True)
