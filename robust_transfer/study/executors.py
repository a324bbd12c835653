"""Executors for a study's cells: in-process, multiprocessing, one shard, Ray. All write the same folders."""

from __future__ import annotations

import dataclasses
import importlib
import multiprocessing
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import torch

from robust_transfer.errors import ConfigError
from robust_transfer.files import expanded
from robust_transfer.run import MOST_THREADS, Run
from robust_transfer.sources import PACKAGED
from robust_transfer.study.recipe import Cell, Recipe, cells, result_of
from robust_transfer.study.store import Store
from robust_transfer.study.work import Workshop

Group = tuple[Cell, ...]
POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
Told = Callable[[int], object]  # called with the number of cells that have just been done


def groups(recipe: Recipe) -> list[Group]:
    """Cells, those that share a result together."""
    found: dict[str, list[Cell]] = {}
    for cell in cells(recipe):
        found.setdefault(result_of(cell), []).append(cell)
    return [tuple(group) for group in found.values()]


def here(workshop: Workshop, work: Sequence[Group], told: Told) -> None:
    """In this process, one after the other."""
    for group in work:
        _make(workshop, group)
        told(len(group))


def shard(text: str, work: Sequence[Group]) -> list[Group]:
    """Groups of shard ``i/n`` (i from 1): every n-th."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    number, of = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= of:
        raise ConfigError(f"cannot read the shard {text!r}: write i/n with i from 1 to n, as in 1/4")
    return list(work[number - 1 :: of])


def threads_for(jobs: int, run: Run) -> Run:
    """``run`` with the threads of each of ``jobs`` processes: as given, else its share of the cores that there are for it."""
    if not 1 <= jobs <= MOST_THREADS:
        raise ConfigError(f"jobs must be between 1 and {MOST_THREADS}, not {jobs}")
    if run.threads is not None:
        return run
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    most = os.environ.get("OMP_NUM_THREADS", "")  # what the user lets a process take
    share = max(1, cores // jobs)
    return dataclasses.replace(run, threads=min(share, int(most)) if most.isdecimal() and int(most) else share)


@contextmanager
def pool(jobs: int, threads: int) -> Iterator[ProcessPoolExecutor]:
    """Processes whose libraries compute with so many ``threads`` each.

    Libraries read the variables when they are loaded, so that in the process itself it would be too late.
    """
    given = {name: os.environ.get(name) for name in POOLS}
    os.environ.update(dict.fromkeys(POOLS, str(threads)))
    try:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, context, initializer=_begin, initargs=(threads,)) as processes:
            yield processes
    finally:
        for name, value in given.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def processes(jobs: int, recipe: Recipe, store: Store, run: Run, work: Sequence[Group], told: Told) -> None:
    """In ``jobs`` processes of this machine. A cell is begun when its source is there: nobody waits for one."""
    try:
        with pool(jobs, run.threads or 1) as workers:
            trained = {workers.submit(_source, recipe, store, run, name): name for name in _sources(work)}
            pending: set[Future[Any]] = set(trained)
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    made = future.result()
                    if future not in trained:
                        told(made)
                        continue
                    ready = [group for group in work if group[0].source == trained[future]]
                    pending |= {workers.submit(_group, recipe, store, run, group) for group in ready}
    except BrokenProcessPool:
        raise ConfigError("a process was killed, perhaps for want of memory: run it again, with fewer --jobs") from None


def ray(address: str, recipe: Recipe, store: Store, run: Run, work: Sequence[Group], told: Told) -> None:
    """On a Ray cluster that shares the study's folder and its data; ``local`` starts one here."""
    try:
        library: Any = importlib.import_module("ray")
    except ImportError:
        raise ConfigError("Ray is an extra: pip install 'robust-transfer[ray]'") from None
    local = address == "local"
    recipe, store = anywhere(recipe), Store(store.root.resolve())
    threads = run.threads or torch.get_num_threads()
    try:
        library.init(address=None if local else address, include_dashboard=False, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(f"no Ray cluster answers at {address!r} ({error}): start one, or use --ray local") from None
    try:
        gpus = 1 if run.device != "cpu" and library.cluster_resources().get("GPU") else 0
        remote = library.remote(num_cpus=threads, num_gpus=gpus, max_retries=0)
        trained = {name: remote(_source).remote(recipe, store, run, name) for name in _sources(work)}
        waiting = [remote(_group).remote(recipe, store, run, group, trained[group[0].source]) for group in work]
        while waiting:
            [ready], waiting = library.wait(waiting, num_returns=1)
            told(library.get(ready))
    finally:
        library.shutdown()


def anywhere(recipe: Recipe) -> Recipe:
    """Recipe with absolute paths, for processes that start in other folders."""

    def absolute(place: str) -> str:
        path = expanded(place)
        return str(path.resolve()) if place not in PACKAGED and path.exists() else place

    sources = {
        name: spec if spec.use is None else dataclasses.replace(spec, use=absolute(spec.use))
        for name, spec in recipe.sources.items()
    }
    data = {name: absolute(place) for name, place in recipe.data.items()}
    return dataclasses.replace(recipe, sources=sources, data=data)


# ---------------------------------------------------------------- in the processes

_workshop: Workshop | None = None


def _begin(threads: int) -> None:
    """Give PyTorch and Arrow, which mind no variable or another one, a process's share of the threads for good."""
    torch.set_num_threads(threads)
    pa.set_cpu_count(threads)


def _open(recipe: Recipe, store: Store, run: Run) -> Workshop:
    global _workshop
    if run.threads is not None:
        torch.set_num_threads(run.threads)
    if _workshop is None or (_workshop.recipe, _workshop.store) != (recipe, store):
        _workshop = Workshop(recipe, store, run)
    return _workshop


def _source(recipe: Recipe, store: Store, run: Run, name: str) -> None:
    _open(recipe, store, run).pretrain(name)


def _group(recipe: Recipe, store: Store, run: Run, group: Group, _: None = None) -> int:
    # Ray starts it when its last argument, what training the source returned, is there
    return _make(_open(recipe, store, run), group)


def _make(workshop: Workshop, group: Group) -> int:
    for cell in group:
        if not workshop.team.from_main(workshop.done(cell)):  # a team goes on together
            workshop.make(cell)
    return len(group)


def _sources(work: Sequence[Group]) -> Iterator[str]:
    yield from dict.fromkeys(cell.source for group in work for cell in group)
