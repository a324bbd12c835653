"""Planning and collecting a study of many cells: seconds, CPU time and memory of the commands, by the number of cells."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from common import header, measured
from small_study import OPTIONS, SHARED, grid, pretend, source, written
from startup import watched
from table import Row, figure

CLI = [sys.executable, "-m", "robust_transfer.cli", "study"]


def planning(counts: Sequence[int], folder: Path) -> list[Row]:
    """`study --dry-run` of studies with nothing made, and `study` of studies with all made, each a process of its own."""
    header("planning and collecting", cells=", ".join(map(str, counts)))
    small = source(folder)
    plan, collect = dict[str, Callable[[], float]](), dict[str, Callable[[], float]]()
    found: dict[str, dict[str, float]] = {}
    for count in counts:
        path, out, name = folder / f"{count}.yaml", folder / f"done{count}", f"{count:,} cells"
        recipe = written(grid(count, small), path)
        first = grid(SHARED, small)
        first["grid"][0]["shots"], first["claims"] = [5], []
        print(f"  a study of {name} that is done: by links", flush=True)
        pretend(recipe, written(first, folder / "first.yaml"), out)
        plan[name] = partial(
            _run, [str(path), "--dry-run", "--out", str(folder / f"new{count}")], found, f"plan {name}"
        )
        collect[name] = partial(_run, [str(path), "--out", str(out)], found, f"collect {name}")
    planned = measured("planning a study (study --dry-run)", plan, 1)
    collected = measured("planning and collecting one that is done (study)", collect, 1)
    for count in counts:
        shutil.rmtree(folder / f"done{count}")
    return [_noted(row, found[f"plan {name}"]) for name, row in planned.items()] + [
        _noted(row, found[f"collect {name}"]) for name, row in collected.items()
    ]


def _run(words: Sequence[str], found: dict[str, dict[str, float]], name: str) -> float:
    watched([*CLI, *words, *OPTIONS], lambda told: found.update({name: told}))
    return found[name]["whole"]


def _noted(row: Row, told: dict[str, float]) -> Row:
    return Row(
        row.what,
        row.name,
        row.values,
        row.unit,
        row.load,
        f"{figure(told['cpu'])} s CPU, {figure(told['megabytes'])} MB",
    )
