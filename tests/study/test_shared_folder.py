"""Proof that another machine sees the same folder, locks and data, or an error that names the difference."""

from __future__ import annotations

import dataclasses
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
from study_helpers import RUN

from robust_transfer.errors import ConfigError, OutputError
from robust_transfer.files import TEMPORARY
from robust_transfer.study.recipe import Recipe, cells
from robust_transfer.study.shared_folder import await_cells, prove, shown
from robust_transfer.study.store import Store
from robust_transfer.study.work import Workshop


def test_who_sees_all_of_it_may_work_and_nothing_is_left_of_the_proof(tmp_path: Path) -> None:
    with shown(tmp_path, [str(tmp_path)]) as token:
        prove(token)
        left = list(tmp_path.iterdir())
    assert len(left) == 2
    assert all(TEMPORARY.fullmatch(path.name) for path in left), "what a kill leaves of it makes no folder a stranger's"
    assert not list(tmp_path.iterdir())


def test_who_lacks_something_is_refused(tmp_path: Path) -> None:
    with shown(tmp_path, [str(tmp_path / "photos")]) as token:
        with pytest.raises(ConfigError, match=r"has nothing at .*photos, which the recipe names"):
            prove(token)
        other = dataclasses.replace(token, paths=(), version="0.0")
        with pytest.raises(ConfigError, match=r"this machine 0\.0: install the same"):
            prove(other)
        with pytest.raises(ConfigError, match=r"sees another folder at .* all machines have to mount one storage"):
            prove(dataclasses.replace(other, root=tmp_path / "elsewhere"))
        token.file.write_text("of another study")
        with pytest.raises(ConfigError, match="sees another folder"):
            prove(other)
        token.file.write_text(token.word)
    token.file.write_text(token.word)  # but nobody holds the lock
    with pytest.raises(ConfigError, match="does not see who locks files"):
        prove(token)


def test_what_others_made_is_waited_for(plain: tuple[Path, pd.DataFrame], recipe: Recipe, tmp_path: Path) -> None:
    """A network file system shows it a little later; a folder that is not shared, never."""
    hidden, out = tmp_path / "hidden", tmp_path / "out"
    hidden.symlink_to(plain[0])
    workshop, made = Workshop(recipe, Store(out), RUN), cells(recipe)
    with pytest.raises(OutputError, match=r"13 cells that others made are not to be seen in .*out"):
        await_cells(workshop, made, patience=0.05)
    later = threading.Timer(0.3, lambda: hidden.rename(out))
    later.start()
    begun = time.monotonic()
    await_cells(workshop, made, patience=60)
    assert time.monotonic() - begun < 50
    later.join()
