"""Launchers' variables: the whole set makes a process one of several, a part of it nothing."""

from __future__ import annotations

import pytest

from robust_transfer.launch import NEEDED, Place, is_main_process, place

WHOLE = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500", "LOCAL_RANK": "1"}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NEEDED, "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


def set_all(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def test_the_whole_set_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, WHOLE)
    assert place() == Place(rank=1, world=2, local_rank=1)
    assert not is_main_process()
    monkeypatch.setenv("RANK", "0")
    assert is_main_process()


@pytest.mark.parametrize("missing", NEEDED)
@pytest.mark.parametrize("value", [None, "", "one"])
def test_a_part_of_it_counts_for_nothing(monkeypatch: pytest.MonkeyPatch, missing: str, value: str | None) -> None:
    set_all(monkeypatch, WHOLE)
    if value is None:
        monkeypatch.delenv(missing)
    else:
        monkeypatch.setenv(missing, value if missing != "MASTER_ADDR" else "")
    assert place() == Place(0, 1, 0)
    assert is_main_process()


@pytest.mark.parametrize(
    "wrong", [{"RANK": "2"}, {"RANK": "-1"}, {"WORLD_SIZE": "1", "RANK": "0"}, {"WORLD_SIZE": "0"}]
)
def test_numbers_that_cannot_be(monkeypatch: pytest.MonkeyPatch, wrong: dict[str, str]) -> None:
    set_all(monkeypatch, {**WHOLE, **wrong})
    assert place() == Place(0, 1, 0)
