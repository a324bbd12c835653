"""Conditions of a timing, and tasks that take turns."""

from __future__ import annotations

import subprocess
from functools import partial
from pathlib import Path

import common
import pytest
import torch
from common import finish, interleaved, measured
from conditions import changed, conditions, cpus
from load import Load, Moment
from table import read


def test_conditions_are_those_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    found = conditions()
    assert found["OMP_WAIT_POLICY"] == "ACTIVE"
    assert found["threads"] == str(torch.get_num_threads())
    assert found["precision"] == "float32"
    assert f"torch {torch.__version__.partition('+')[0]}" in found["versions"]
    assert found["hardware"].endswith(f", {cpus()} CPUs")
    monkeypatch.delenv("OMP_WAIT_POLICY")
    assert conditions()["OMP_WAIT_POLICY"] == "not set"


def test_a_checkout_with_changes_is_not_its_commit(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True)

    git("init")
    (tmp_path / "file").write_text("a")
    git("add", "file")
    git("commit", "-m", "a")
    (tmp_path / "other").write_text("nobody knows it")
    assert not changed(tmp_path)
    (tmp_path / "file").write_text("b")
    assert changed(tmp_path)
    assert not changed(tmp_path / "nowhere")


def test_tasks_take_turns_and_are_told_as_they_come(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of each span of 100 ticks others took 5 beside the first task and 30 beside the second."""
    counts = iter(range(100))
    values = {"first": iter([3.0, 1.0, 2.0]), "second": iter([10.0, 30.0, 20.0])}
    order: list[str] = []

    def moment() -> Moment:
        spans, within = divmod(next(counts), 2)
        others = 5 * (spans // 2 + spans % 2) + 30 * (spans // 2)  # of what has ended
        others += within * (30 if spans % 2 else 5)
        return Moment(100 * (spans + within), others + 50 * (spans + within), 50 * (spans + within))

    def task(name: str) -> float:
        order.append(name)
        said = capsys.readouterr().out
        assert len(said.splitlines()) == (len(order) > 1)  # what came before has been told
        return next(values[name])

    monkeypatch.setattr(common, "moment", moment)
    rows = measured("both", {name: partial(task, name) for name in values}, 3, unit="ms")
    assert order == ["first", "second"] * 3
    assert (rows["first"].values, rows["first"].median) == ((3.0, 1.0, 2.0), 2.0)
    assert [row.load for row in rows.values()] == [Load(15, 300), Load(90, 300)]
    assert capsys.readouterr().out == "    second, 3 of 3: 20 ms (taken by others: 30 %: disturbed by neighbours)\n"


def test_medians_and_a_table_that_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = iter([1.0, 5.0, 3.0])
    assert interleaved({"a": lambda: next(values)}, 3) == {"a": 3.0}
    rows = tuple(measured("one", {"b": lambda: 2.0}, 1).values())
    capsys.readouterr()
    finish(rows, tmp_path / "rows")
    [report] = read(tmp_path / "rows")
    assert (report.rows, report.conditions) == (rows, conditions())
    assert "| one | b | 2.00 s |" in capsys.readouterr().out
