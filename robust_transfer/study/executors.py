"""Executors for a study's cells: in-process, multiprocessing, one shard, Ray. All write the same folders."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path

import torch

from robust_transfer.errors import ConfigError
from robust_transfer.files import expanded
from robust_transfer.run import MAX_THREADS, Run
from robust_transfer.sources import PACKAGED
from robust_transfer.study.dispatch import Group, Job, Outcome, Report, dispatch, make_job
from robust_transfer.study.local_crew import LocalCrew
from robust_transfer.study.ray_crew import RayCrew, cluster
from robust_transfer.study.recipe import Cell, Recipe, cells, result_of
from robust_transfer.study.shared_folder import await_cells, shown
from robust_transfer.study.store import Store
from robust_transfer.study.work import Workshop


def groups(recipe: Recipe) -> list[Group]:
    """Cells, grouped by shared result."""
    found: dict[str, list[Cell]] = {}
    for cell in cells(recipe):
        found.setdefault(result_of(cell), []).append(cell)
    return [tuple(group) for group in found.values()]


def here(workshop: Workshop, work: Sequence[Group], report: Report) -> None:
    """Make the cells in this process, one after the other."""
    for group in work:
        make_job(workshop, Job(group[0].source, group))
        report(len(group))


def shard(text: str, work: Sequence[Group]) -> list[Group]:
    """Groups of shard ``i/n`` (i from 1): every n-th."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    number, of = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= of:
        raise ConfigError(f"cannot read the shard {text!r}: write i/n with i from 1 to n, as in 1/4")
    return list(work[number - 1 :: of])


def threads_for(jobs: int, run: Run) -> Run:
    """``run`` with the threads of each of ``jobs`` processes: as given, else an equal share of the cores."""
    if not 1 <= jobs <= MAX_THREADS:
        raise ConfigError(f"jobs must be between 1 and {MAX_THREADS}, not {jobs}")
    if run.threads is not None:
        return run
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    most = os.environ.get("OMP_NUM_THREADS", "")  # what the user lets a process take
    share = max(1, cores // jobs)
    return dataclasses.replace(run, threads=min(share, int(most)) if most.isdecimal() and int(most) else share)


def processes(jobs: int, workshop: Workshop, work: Sequence[Group], report: Report) -> Outcome:
    """Make the cells in ``jobs`` processes of this machine.

    A cell begins once its source is there: no process waits for one.
    """
    if not (left := _left(workshop, work, report)):
        return Outcome()
    return dispatch(workshop, left, LocalCrew(jobs, workshop.recipe, workshop.store, workshop.run), report)


def ray(address: str, workshop: Workshop, work: Sequence[Group], report: Report) -> Outcome:
    """Make the cells on a Ray cluster whose nodes share the study's folder and its data; ``local`` starts one here."""
    if not (left := _left(workshop, work, report)):
        return Outcome()
    recipe, store, run = anywhere(workshop.recipe), Store(workshop.store.root.resolve()), workshop.run
    threads = run.threads or torch.get_num_threads()
    with cluster(address) as library, shown(store.root, local_paths(recipe)) as token:
        outcome = dispatch(workshop, left, RayCrew(library, recipe, store, run, threads, token), report)
    made = (cell for group in work for cell in group)
    await_cells(workshop, [cell for cell in made if workshop.evaluation_key(cell) not in outcome.given_up])
    return outcome


def _left(workshop: Workshop, work: Sequence[Group], report: Report) -> list[Group]:
    """Cells that are not done yet."""
    left = [group for group in work if not all(workshop.done(cell) for cell in group)]
    report(sum(map(len, work)) - sum(map(len, left)))
    return left


def local_paths(recipe: Recipe) -> list[str]:
    """Files and folders of a recipe with absolute paths."""
    places = [*recipe.data.values(), *(spec.use for spec in recipe.sources.values() if spec.use is not None)]
    return [place for place in places if Path(place).is_absolute()]


def anywhere(recipe: Recipe) -> Recipe:
    """Recipe with absolute paths, for processes with other working directories."""

    def absolute(place: str) -> str:
        path = expanded(place)
        return str(path.resolve()) if place not in PACKAGED and path.exists() else place

    sources = {
        name: spec if spec.use is None else dataclasses.replace(spec, use=absolute(spec.use))
        for name, spec in recipe.sources.items()
    }
    data = {name: absolute(place) for name, place in recipe.data.items()}
    return dataclasses.replace(recipe, sources=sources, data=data)
