"""Executors for a study's cells: in-process, multiprocessing, one shard, Ray. All write the same folders."""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from robust_transfer.errors import ConfigError
from robust_transfer.files import expanded
from robust_transfer.run import MOST_THREADS, Run
from robust_transfer.sources import PACKAGED
from robust_transfer.study.dispatch import Group, Job, Outcome, Told, dispatch, make_job
from robust_transfer.study.local_crew import LocalCrew
from robust_transfer.study.recipe import Cell, Recipe, cells, result_of
from robust_transfer.study.store import Store
from robust_transfer.study.work import Workshop


def groups(recipe: Recipe) -> list[Group]:
    """Cells, those that share a result together."""
    found: dict[str, list[Cell]] = {}
    for cell in cells(recipe):
        found.setdefault(result_of(cell), []).append(cell)
    return [tuple(group) for group in found.values()]


def here(workshop: Workshop, work: Sequence[Group], told: Told) -> None:
    """In this process, one after the other."""
    for group in work:
        make_job(workshop, Job(group[0].source, group))
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


def processes(jobs: int, workshop: Workshop, work: Sequence[Group], told: Told) -> Outcome:
    """In ``jobs`` processes of this machine. A cell is begun when its source is there: nobody waits for one."""
    crew = LocalCrew(jobs, workshop.recipe, workshop.store, workshop.run)
    return dispatch(workshop, work, crew, told)


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
    make_job(_open(recipe, store, run), Job(group[0].source, group))
    return len(group)


def _sources(work: Sequence[Group]) -> Iterator[str]:
    yield from dict.fromkeys(cell.source for group in work for cell in group)
