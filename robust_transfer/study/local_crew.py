"""Crew of processes on this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import cast

import pyarrow as pa
import torch

from robust_transfer.run import Run
from robust_transfer.study.dispatch import Answer, Crew, Job, Worker, WorkerDiedError, answer_to, name_of_worker
from robust_transfer.study.recipe import Recipe
from robust_transfer.study.store import Store
from robust_transfer.study.work import Workshop

POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
PATIENCE = 10.0  # seconds that a process has to end by itself


@contextmanager
def pools_of(threads: int) -> Iterator[None]:
    """Processes that are started inside the block have libraries that compute with so many ``threads`` each.

    Libraries read the variables when they are loaded, so that in the process itself it would be too late.
    """
    given = {name: os.environ.get(name) for name in POOLS}
    os.environ.update(dict.fromkeys(POOLS, str(threads)))
    try:
        yield
    finally:
        for name, value in given.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def limit_threads(threads: int) -> None:
    """Give PyTorch and Arrow, which mind no variable or another one, a process's share of the threads for good."""
    torch.set_num_threads(threads)
    pa.set_cpu_count(threads)


class _Process(Worker):
    def __init__(self, process: SpawnProcess, line: Connection) -> None:
        self.process, self.line = process, line

    def give(self, job: Job) -> None:
        """A broken line is what a dead process leaves, which :meth:`hear` tells."""
        try:
            self.line.send(job)
        except OSError:
            self.line.close()

    def hear(self) -> Answer:
        """What it sent last counts, also where it has died since."""
        try:
            return cast(Answer, self.line.recv())
        except (EOFError, OSError):
            self.process.join(PATIENCE)
            raise WorkerDiedError(_ending(self.process.exitcode)) from None


class LocalCrew(Crew):
    """``size`` processes of this machine, with ``run.threads`` each."""

    advice = "is there memory for so many? give fewer --jobs"

    def __init__(self, size: int, recipe: Recipe, store: Store, run: Run) -> None:
        self.size, self._opening = size, (recipe, store, run)

    def hire(self) -> Worker:
        """Start a process."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        threads = self._opening[2].threads or 1
        process = context.Process(target=_serve, args=(theirs, *self._opening))
        with pools_of(threads):
            process.start()
        theirs.close()  # the end of the process is the end of the line
        return _Process(process, ours)

    def wait(self, workers: Sequence[Worker]) -> Sequence[Worker]:
        """A dead one's line has an end to be heard."""
        lines = {worker.line: worker for worker in workers if isinstance(worker, _Process) and not worker.line.closed}
        broken = [worker for worker in workers if worker not in lines.values()]
        return broken or [lines[line] for line in wait(list(lines)) if isinstance(line, Connection)]

    def dismiss(self, worker: Worker) -> None:
        """Stopped, whatever it is at: that can be gone on with."""
        assert isinstance(worker, _Process)
        worker.line.close()
        worker.process.terminate()
        worker.process.join(PATIENCE)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.process.close()


def _ending(code: int | None) -> str:
    """How a process ended, by its exit code."""
    if code is None or code >= 0:
        return f"with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")


# ---------------------------------------------------------------- in the process


def _serve(line: Connection, recipe: Recipe, store: Store, run: Run) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one that hired it hears it, too, and ends it
    limit_threads(run.threads or 1)
    workshop, who = Workshop(recipe, store, run), name_of_worker()
    line.send(Answer(who))
    try:
        while True:
            line.send(answer_to(line.recv(), workshop, who))
    except (
        EOFError,
        BrokenPipeError,
        ConnectionResetError,
    ):  # it is not needed any more, or nobody is there to need it
        return
