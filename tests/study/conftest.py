"""Shared fixture: a study, made once for several files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from filelock import FileLock
from study_helpers import RUN, WANTED, written

from robust_transfer.study import load_recipe, run_study
from robust_transfer.study.recipe import Recipe


@pytest.fixture(scope="session", autouse=True)
def begin_with_one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("recipe"), **WANTED)


@pytest.fixture(scope="session")
def recipe(path: Path) -> Recipe:
    return load_recipe(path)


@pytest.fixture(scope="session")
def plain(recipe: Recipe, common: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """The study in one process: a copy of one that all workers of a test session share."""
    with FileLock(common / "plain.lock"):
        run_study(recipe, common / "plain", run=RUN)
    out = tmp_path_factory.mktemp("plain") / "study"
    shutil.copytree(common / "plain", out)
    return out, run_study(recipe, out, run=RUN)
