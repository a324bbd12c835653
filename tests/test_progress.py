"""Bars: moved by image passes within a block, settled at its end, and never told where it is quiet."""

from __future__ import annotations

import logging

import pytest

from robust_transfer.messages import on_standard_error
from robust_transfer.progress import download_bar, hushed, stage, tell, tick


def completed(shown: object) -> float:
    return shown.bar.tasks[0].completed  # type: ignore[attr-defined, no-any-return]


def test_passes_move_a_bar_within_its_block_and_no_further() -> None:
    tick(5)  # nobody listens
    with stage("attack", 10, False, each=4.0) as bar:
        bar.begin(6)
        tick(8)
        assert completed(bar) == pytest.approx(2)
        tick(1000)
        assert 5.5 < completed(bar) < 6
        bar.advance(6)
        assert completed(bar) == 6
        tick(8)  # between blocks
        assert completed(bar) == 6
        bar.begin(4, "other")
        tick(4)
        assert completed(bar) == pytest.approx(7)
        assert bar.bar.tasks[0].description == "other"
    tick(5)


def test_a_hidden_stage_leaves_the_passes_to_the_one_around_it() -> None:
    with stage("curve", 8, False, each=2.0) as outer:
        outer.begin(8)
        with stage("attack", 8, True) as inner:
            inner.begin(8)
            tick(6)
        assert completed(outer) == pytest.approx(3)


def test_what_is_told_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with on_standard_error():
        tell(False, "clean accuracy")
        tell(True, "nothing")
    assert capsys.readouterr() == ("", "clean accuracy\n")


def test_a_stage_leaves_lines_in_the_log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hidden or not: who asks for quiet asks for no bars. While it goes on, one line in some time at most."""
    now = [100.0]
    monkeypatch.setattr("robust_transfer.progress.time.monotonic", lambda: now[0])
    with caplog.at_level(logging.INFO, "robust_transfer"), stage("attack", 10, hidden=True) as shown:
        for seconds in (1, 28, 2, 1):
            now[0] += seconds
            shown.advance(2)
    assert caplog.messages == ["attack: 6 of 10, 31.0 s", "attack: 8 of 10, 32.0 s"]


def test_a_download_shows_bytes_and_begins_where_it_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    with download_bar("net[1].pt", False) as bar:
        bar.begin(0, None)
        bar.begin(1_500_000, 2_000_000)
        assert completed(bar) == 1_500_000
        bar.advance(500_000)
        assert completed(bar) == 2_000_000
    shown = capsys.readouterr().err
    assert "net[1].pt" in shown
    assert "2.0/2.0 MB" in shown


def test_what_is_hushed_shows_nothing_and_what_follows_does(capsys: pytest.CaptureFixture[str]) -> None:
    with on_standard_error(), hushed(True), hushed(False):  # who is quiet outside is quiet inside
        tell(False, "not this")
        with stage("nor this", 2, hidden=False) as shown:
            shown.advance(2)
    with on_standard_error():
        tell(False, "but this")
    assert capsys.readouterr().err == "but this\n"
