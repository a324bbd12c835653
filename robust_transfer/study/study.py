"""Study: make a recipe's cells by any executor, then write the table, the plots and the report."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from pathlib import Path
from typing import Any

import pandas as pd

from robust_transfer.config import as_dict, build
from robust_transfer.environment import command_line, environment
from robust_transfer.errors import ConfigError, OutputError
from robust_transfer.files import TEMPORARY, append_line, expanded, write_json
from robust_transfer.launch import is_main_process
from robust_transfer.messages import show
from robust_transfer.progress import progress_bars
from robust_transfer.run import Run
from robust_transfer.study import executors
from robust_transfer.study.dispatch import Outcome
from robust_transfer.study.estimate import Crew, Estimate, estimate
from robust_transfer.study.filters import filters_are_made, look_at_filters
from robust_transfer.study.given_up import note_given_up, read_given_up
from robust_transfer.study.outcomes import write_outcomes
from robust_transfer.study.recipe import Recipe, cells
from robust_transfer.study.report import STARTS, write_report
from robust_transfer.study.store import Store
from robust_transfer.study.table import tabulate, write_table
from robust_transfer.study.work import Workshop, tidy
from robust_transfer.texts import read_json
from robust_transfer.training.processes import alone

STUDY = "study.json"
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # of `s3://x` a path has one slash left


def run_study(
    recipe: Recipe,
    out: Path,
    *,
    run: Run | None = None,
    jobs: int | None = None,
    shard: str | None = None,
    ray: str | None = None,
) -> pd.DataFrame:
    """Make the missing cells of ``recipe`` in the folder ``out``, and write ``table.parquet`` and ``report.md`` there.

    Finished cells are not made again: an interrupted study resumes, another recipe in the same folder shares common
    results. Cells are made in this process, or in ``jobs`` processes, or only ``shard`` (``"1/4"``) of them, or on a
    Ray cluster at ``ray`` (``"local"`` starts one). Under torchrun, each cell is trained by all processes together.
    Returns the table: one row for each cell that is done, or was given up because three workers died of it. Raises
    :class:`ConfigError` and :class:`OutputError` before anything is computed.
    """
    if sum(given is not None for given in (jobs, shard, ray)) > 1:
        raise ConfigError("jobs, shard and ray are three ways to compute: give one of them")
    if ray is not None and not ray.strip():
        raise ConfigError("ray is the address of a cluster, or local: it is empty")
    out = expanded(out)
    begun, store = time.perf_counter(), _open(out)
    run = dataclasses.replace(run or Run(), out=None, resume=False, overwrite=False)
    if jobs is not None:
        run = executors.threads_for(jobs, run)
    if (jobs is not None or ray is not None) and not alone():
        raise ConfigError("torchrun's processes train each cell together: leave --jobs and --ray out")
    with run.at_work():
        return _run(recipe, store, _settled(run, out), jobs=jobs, shard=shard, ray=ray, begun=begun)


def _run(
    recipe: Recipe, store: Store, run: Run, *, jobs: int | None, shard: str | None, ray: str | None, begun: float
) -> pd.DataFrame:
    work, workshop = executors.groups(recipe), Workshop(recipe, store, run)
    work = executors.shard(shard, work) if shard is not None else work
    missing = [cell for group in work for cell in group if not workshop.done(cell)]
    workshop.refuse_impossible(missing)
    if missing and not run.quiet and is_main_process():
        show(estimate(workshop, Crew(processes=jobs or 1)), error=True)
    if is_main_process():
        how = {"recipe": as_dict(recipe), "command": command_line(), "precision": run.precision, **environment()}
        write_json(store.root / STUDY, how)
        tidy(store)
    with progress_bars(run.quiet or not is_main_process()) as bar:
        shown = bar.add_task(recipe.name, total=sum(len(group) for group in work))

        def told(count: int) -> None:
            bar.update(shown, advance=count)

        outcome = Outcome()
        if ray is not None:
            outcome = executors.ray(ray, workshop, work, told)
        elif jobs is not None and jobs > 1:
            outcome = executors.processes(jobs, workshop, work, told)
        else:
            executors.here(workshop, work, told)
    if is_main_process():
        note_given_up(store.root, {workshop.evaluation_key(cell) for cell in missing}, outcome.given_up)
    pictured = recipe.filters is not None and not filters_are_made(workshop, recipe.filters)
    if recipe.filters is not None:
        look_at_filters(workshop, recipe.filters)
    if (missing or pictured) and is_main_process():
        start = {"command": command_line(), "seconds": round(time.perf_counter() - begun, 1), "cells": len(missing)}
        append_line(store.root / STARTS, json.dumps(start | _workers(outcome)))
    return collect(workshop)


def _workers(outcome: Outcome) -> dict[str, Any]:
    """Record of the workers of a start, if any: seconds of each on cells, and deaths."""
    if not outcome.seconds and not outcome.deaths:
        return {}
    busy = {who: round(seconds, 3) for who, seconds in outcome.seconds.items()}
    return {"workers": busy, "deaths": outcome.deaths, "given_up": len(outcome.given_up)}


def collect(workshop: Workshop) -> pd.DataFrame:
    """Table of done and given-up cells so far; writes it and the report."""
    table = tabulate(workshop, cells(workshop.recipe), read_given_up(workshop.store.root))
    if workshop.team.main:
        write_table(table, workshop.store.root)
        if workshop.recipe.fronts is not None:
            write_outcomes(workshop.store, table)
        write_report(workshop, table)
    return table


def dry_run(
    recipe: Recipe, out: Path, *, run: Run | None = None, jobs: int | None = None, nodes: int | None = None
) -> Estimate:
    """Plan of a study: the missing pieces, their estimated time and size; nothing is written.

    ``nodes``: so many machines like this one, with ``jobs`` processes each.
    """
    if nodes is not None and nodes < 1:
        raise ConfigError(f"nodes are machines, at least 1, not {nodes}")
    run, store = run or Run(), _open(out)
    if jobs is not None:
        run = executors.threads_for(jobs, run)
    with run.at_work():
        workshop = Workshop(recipe, store, _settled(run, out))
        workshop.refuse_impossible(cells(recipe))
        return estimate(workshop, Crew(nodes or 1, jobs or 1))


def _settled(run: Run, out: Path) -> Run:
    """``run`` in the study's precision, which all its processes and later starts share."""
    # `auto` is decided by the machine: a shard on another one would mix precisions in one table, so the first decides.
    if run.precision != "auto":
        return run
    try:
        begun = str(read_json(Path(out) / STUDY)["precision"])
    except (OSError, ValueError, KeyError, TypeError):
        begun = str(run.dtype()).removeprefix("torch.")
    return build(Run, {**vars(run), "precision": begun}, "the study's precision")


def _open(out: Path) -> Store:
    out = Path(out)
    if URL.match(str(out)):
        raise OutputError(
            f"{out} is an address: a study needs a folder with locks and renames, which a store of objects has not; give "
            "a path (on storage that all machines mount, such as NFS, where several compute)"
        )
    if out.exists() and not out.is_dir():
        raise OutputError(f"the output path {out} is a file: give a folder")
    foreign = [path for path in out.iterdir() if not TEMPORARY.fullmatch(path.name)] if out.is_dir() else []
    if foreign and not (out / STUDY).exists():
        raise OutputError(f"{out} is not empty and holds no study: give another folder")
    return Store(out)
