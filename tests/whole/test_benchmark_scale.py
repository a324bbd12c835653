"""Overhead of a study: from made-up notes and counts."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from known_cells import Begun, Cost, cost_of, noted, strategy
from many_images import pictures, write
from PIL import Image
from searching import looks
from small_study import grid, known, written
from tree import TICK, Tree

from robust_transfer.data import load_task
from robust_transfer.data.duplicates import find_copies
from robust_transfer.data.fingerprints import SHADES, fingerprint
from robust_transfer.strategies import STRATEGIES
from robust_transfer.study.recipe import cells


def stat(proc: Path, pid: int, parent: int, ticks: int, finished: int = 0) -> None:
    (proc / str(pid)).mkdir(parents=True, exist_ok=True)
    (proc / str(pid) / "stat").write_text(
        f"{pid} (a b) R {parent} 6 7 8 9 0 1 2 3 4 {ticks} 0 {finished} 0 20 0 5 0 99"
    )


def test_a_tree_counts_each_process_once_and_keeps_what_has_ended(tmp_path: Path) -> None:
    """What a parent says of its finished children is left out, as these were seen themselves."""
    tree = Tree(tmp_path, root=40)
    stat(tmp_path, 1, 0, 9999)
    stat(tmp_path, 40, 1, 100)
    stat(tmp_path, 41, 40, 10)
    tree.look()
    stat(tmp_path, 40, 1, 150, finished=60)
    (tmp_path / "41" / "stat").unlink()
    stat(tmp_path, 42, 40, 30)
    stat(tmp_path, 43, 42, 7)
    tree.look()
    first, last = tree.looks[0][0], tree.looks[1][0]
    assert tree.at(last) == {40: 50 * TICK, 41: 0.0, 42: 30 * TICK, 43: 7 * TICK}
    assert tree.at(first) == {40: 0.0, 41: 0.0}


def test_the_cost_of_a_study_in_closed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells of 1 s by two processes, one of them killed at its second, and one that came for it; this process is 1."""
    monkeypatch.setattr("os.getpid", lambda: 1)
    spent = [
        Begun(2, 10.0, 4.0, 11.0), Begun(3, 10.1, 4.5, 11.1), Begun(2, 11.2, 5.2, None), Begun(4, 15.0, 5.0, 16.0),
        Begun(3, 16.0, 6.0, 17.0),
    ]  # fmt: skip
    looks = [
        (9.0, {1: 100.0}),
        (9.9, {1: 102.0, 2: 3.9, 3: 4.4, 9: 1.0}),
        (20.0, {1: 103.0, 2: 5.3, 3: 7.4, 4: 6.3, 9: 1.5}),
    ]
    seen = Tree()
    seen.looks = looks
    monkeypatch.setattr("time.time", lambda: 21.0)
    cost = cost_of(spent, 1.0, seen, killed=(2, 5.7), wall=12.0)
    assert cost.cells == 4
    assert cost.started == pytest.approx((2 + 1) + (4 + 4.5 + 5))
    assert cost.lost == pytest.approx(5.7 - 5.2)
    assert cost.whole == pytest.approx(3 + 5.7 + 7.4 + 6.3 + 1.5)
    assert 4 * cost.beside == pytest.approx(23.9 - 16.5 - 0.5 - 4)
    assert Cost(10, 5.0, 6.0, 0.0, 0.0, 9.0).share(0.9) == pytest.approx(0.1)


def test_notes_of_processes_come_by_time(tmp_path: Path) -> None:
    spent: dict[int, list[tuple[float, float | None]]] = {7: [(5.0, 6.0), (7.0, None)], 8: [(1.0, 2.0)]}
    for pid, lines in spent.items():
        kept = [json.dumps({"begun": begun, "cpu": 1}) for begun, _ in lines]
        kept += [json.dumps({"ended": ended, "cpu": 2}) for _, ended in lines if ended is not None]
        (tmp_path / f"{pid}.jsonl").write_text("\n".join(kept) + "\n")
    assert noted(tmp_path) == [Begun(8, 1.0, 1, 2.0), Begun(7, 5.0, 1, 6.0), Begun(7, 7.0, 1, None)]


def test_recipes_have_so_many_cells(tmp_path: Path) -> None:
    strategy()
    assert len(cells(written(grid(400, tmp_path), tmp_path / "grid.yaml"))) == 400
    assert len(cells(written(known(30, 0.5, tmp_path), tmp_path / "known.yaml"))) == 30
    with pytest.raises(ValueError, match="not 200 a seed"):
        grid(300, tmp_path)
    del sys.modules["known_work"], STRATEGIES._entries["known-work"]  # other tests look at all that there are


def test_images_are_all_different_and_are_read(tmp_path: Path) -> None:
    assert write(tmp_path / "data", 300) == sum(path.stat().st_size for path in (tmp_path / "data").iterdir())
    task = load_task(str(tmp_path / "data"), val=0)
    assert (len(task.train), len(task.test)) == (270, 30)
    assert len(set(task.train.fingerprints.exact.tolist()) | set(task.test.fingerprints.exact.tolist())) == 300
    stored: Any = pq.read_table(tmp_path / "data" / "test.parquet")
    first = np.asarray(Image.open(io.BytesIO(stored.column("image")[0].as_py())))
    assert (first == pictures(np.arange(30))[0]).all()


def test_made_up_looks_are_as_bright_as_the_images_and_no_two_alike() -> None:
    prints = looks(2_000)
    real = np.stack([fingerprint(picture) for picture in pictures(np.arange(2_000))])
    shades = real[:, -SHADES:].astype(float)
    assert np.abs(prints.shades.mean(0) - shades.mean(0)).max() < 8
    assert np.abs(prints.shades.std(0) - shades.std(0)).max() < 5
    assert not find_copies(prints.take(np.arange(500)), prints.take(np.arange(500, 2_000))).found.any()
