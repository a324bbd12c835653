"""Studies of synthetic small cells: their source, their recipes, and one that is done without being computed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from robust_transfer.data import load_task
from robust_transfer.pretraining import Natural
from robust_transfer.run import Run
from robust_transfer.study import load_recipe, run_study
from robust_transfer.study.recipe import Recipe, cells
from robust_transfer.study.store import Store
from robust_transfer.study.work import Workshop

RUN = Run(quiet=True, threads=1, precision="float32", device="cpu")
OPTIONS = ["--threads", "1", "--precision", "float32", "--device", "cpu", "--quiet"]  # the same for a command
SHARED = 200  # cells of one seed
BRIEF = {"threat": "linf:0.05", "attack": "fgsm", "examples": 10, "transfer_attack_examples": 0}


def source(folder: Path) -> Path:
    """A small network for the built-in digits."""
    how = Run(quiet=True, threads=1, precision="float32", device="cpu", out=folder / "source")
    Natural(epochs=2, augment=False)(load_task("builtin:digits"), network="wrn_16_1", run=how)
    return folder / "source"


def grid(count: int, source: Path) -> dict[str, Any]:
    """Recipe of ``count`` cells, 200 a seed: ten probes x five numbers of shots x four evaluations."""
    if count % SHARED:
        raise ValueError(f"{count} cells are not {SHARED} a seed")
    threats = {f"at {eps}": {**BRIEF, "threat": f"linf:{eps}"} for eps in (0.01, 0.02, 0.05, 0.1)}
    at = {"shots": 10, "evaluation": "at 0.05"}
    return {
        **_study(source, {"probe": {"strategy": "linear-probe", "each": {"l2": [0.5**k for k in range(10)]}}}, threats),
        "grid": [
            _block(
                strategy="probe", shots=[5, 10, 20, 40, 80], seed=list(range(count // SHARED)), evaluation=list(threats)
            )
        ],
        "plots": [{"x": "set.l2", "by": "shots", "log": True}],
        "claims": [{"says": "x", "of": {"set.l2": 1.0, **at}, "less": {"set.l2": 0.5, **at}}],
    }


def known(count: int, seconds: float, source: Path) -> dict[str, Any]:
    """Recipe of ``count`` cells that take so many seconds of CPU time each, and beside these what any small cell takes."""
    work = {"strategy": "known-work", "set": {"seconds": seconds}, "each": {"number": list(range(count))}}
    return {
        **_study(source, {"work": work}, {"brief": BRIEF}),
        "grid": [_block(strategy="work", shots=10, evaluation="brief")],
    }


def _study(source: Path, strategies: Mapping[str, Any], evaluations: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": "synthetic",
        "title": "Synthetic small cells",
        "paper": "none",
        "sources": {"small": {"use": str(source)}},
        "tasks": {"digits": {"data": "builtin:digits"}},
        "strategies": dict(strategies),
        "evaluations": dict(evaluations),
    }


def _block(**parts: Any) -> dict[str, Any]:
    return {"source": "small", "task": "digits", **parts}


def written(recipe: Mapping[str, Any], path: Path) -> Recipe:
    """The recipe, which ``path`` holds now."""
    path.write_text(yaml.safe_dump(dict(recipe)), encoding="utf-8")
    return load_recipe(path)


def pretend(recipe: Recipe, first: Recipe, out: Path) -> None:
    """Make the cells of ``first``, a part of ``recipe``, and say of all other cells that they came to the same: by links."""
    run_study(first, out, run=RUN)
    made = {_like(cell): cell for cell in cells(first)}
    workshop = Workshop(recipe, Store(out), RUN)
    for cell in cells(recipe):
        like = made[_like(cell)]
        for folder, other in (
            (workshop.result_folder(cell), workshop.result_folder(like)),
            (workshop.evaluation_folder(cell), workshop.evaluation_folder(like)),
        ):
            if not folder.exists():
                shutil.copytree(other, folder, copy_function=os.link)


def _like(cell: Any) -> str:
    """Cells that only the seed and the shots tell apart have one name."""
    return repr((cell.evaluation, cell.each))
