"""What is cut from train where a data set has no test split or no val, or where another val is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_helpers import NAMES, balanced, counts
from images import exact_hash, number, picture, write_parquet

from robust_transfer.data import load_task
from robust_transfer.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_parquet(tmp_path / "train.parquet", balanced(30), names=NAMES)
    write_parquet(tmp_path / "val.parquet", balanced(6), names=NAMES)
    return tmp_path


def test_validation_becomes_test_where_there_is_none(folder: Path) -> None:
    task = load_task(folder)
    assert (len(task.train) + len(task.val), len(task.test)) == (30, 6)
    assert "the validation split is used as test" in task.notes[0]


def test_an_own_validation_split_is_used_unless_another_is_asked_for(folder: Path) -> None:
    write_parquet(folder / "test.parquet", balanced(9), names=NAMES)
    sizes = {}
    for val in (None, 0, 0.5):
        task = load_task(folder, val=val)
        sizes[val] = (len(task.train), len(task.val), len(task.test))
        assert any("own validation split is not used" in note for note in task.notes) == (val is not None)
    half = sizes.pop(0.5)
    assert sizes == {None: (30, 6, 9), 0: (30, 0, 9)}
    assert half[0] + half[1] == 30
    assert 6 <= half[1] <= 24
    shots = load_task(folder, shots=5)
    assert [counts(part) for part in (shots.train, shots.val, shots.test)] == [[4] * 3, [1] * 3, [3] * 3]


def test_the_default_val_is_a_tenth_up_to_a_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", balanced(300), names=NAMES, size=2)
    write_parquet(tmp_path / "test.parquet", balanced(3), names=NAMES, size=2)
    exact = [exact_hash(picture(0, i, 2)) for i in range(300)]
    u = np.array([number(content, "data/val", 0) for content in exact])
    assert load_task(tmp_path).val.ids.tolist() == np.flatnonzero(u < 0.1).tolist()
    assert load_task(tmp_path, val=0.2).val.ids.tolist() == np.flatnonzero(u < 0.2).tolist()
    monkeypatch.setattr("robust_transfer.data.cutting.VAL_LIMIT", 12)
    assert load_task(tmp_path).val.ids.tolist() == np.flatnonzero(u < 12 / 300).tolist()
    assert load_task(tmp_path, val=0.2).val.ids.tolist() == np.flatnonzero(u < 0.2).tolist()


@pytest.mark.parametrize("arguments", [{"shots": 0}, {"val": 0.6}, {"val": -0.1}, {"val": float("nan")}, {"seed": -1}])
def test_arguments_out_of_range(folder: Path, arguments: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"^{next(iter(arguments))} "):
        load_task(folder, **arguments)  # type: ignore[arg-type]
