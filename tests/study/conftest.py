"""A study that several files look at, made once."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
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
def plain(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """The study in one process."""
    out = tmp_path_factory.mktemp("plain")
    return out, run_study(recipe, out, run=RUN)
