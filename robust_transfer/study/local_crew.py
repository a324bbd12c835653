"""Crew of processes on this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
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
EXIT_TIMEOUT = 10.0  # seconds that a process has to end by itself


@contextmanager
def pools_of(threads: int) -> Iterator[None]:
    """Limit libraries in processes started inside the block to ``threads`` threads each.

    Libraries read the variables when they are loaded: inside the process itself it would be too late.
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
    """Limit PyTorch and Arrow to the process's share of threads, as they ignore those variables."""
    torch.set_num_threads(threads)
    pa.set_cpu_count(threads)


class _Process(Worker):
    def __init__(self, process: SpawnProcess, line: Connection) -> None:
        self.process, self.line = process, line

    def give(self, job: Job) -> None:
        """Send a job; :meth:`hear` reports a broken pipe."""
        try:
            self.line.send(job)
        except OSError:
            self.line.close()

    def hear(self) -> Answer:
        """Next answer, including one sent before the process died."""
        try:
            return cast(Answer, self.line.recv())
        except (EOFError, OSError):
            self.process.join(EXIT_TIMEOUT)
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
        """Wait for answers; a dead process's pipe counts as one."""
        lines = {worker.line: worker for worker in workers if isinstance(worker, _Process) and not worker.line.closed}
        broken = [worker for worker in workers if worker not in lines.values()]
        return broken or [lines[line] for line in wait(list(lines)) if isinstance(line, Connection)]

    def dismiss(self, worker: Worker) -> None:
        """Stop a process at once; interrupted work can be resumed."""
        assert isinstance(worker, _Process)
        worker.line.close()
        worker.process.terminate()
        worker.process.join(EXIT_TIMEOUT)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.process.close()


def _ending(code: int | None) -> str:
    """Description of a process's exit code."""
    if code is None or code >= 0:
        return f"with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"by {name}" + (", perhaps out of memory" if name == "SIGKILL" else "")


# ---------------------------------------------------------------- in the process


def _end_with_parent() -> None:
    """End this process as soon as the one that hired it is gone, in the middle of a cell, too: nobody waits for its answer."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _serve(line: Connection, recipe: Recipe, store: Store, run: Run) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
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
    ):  # not needed any more, or its parent is gone
        return
