"""Harness of the other faults: what is injected happens, and what is no clear end is seen."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import faults_workers
import pytest
from faults_other import failed, record
from forked import Ended
from injected import failing_at, jumping_clock, slow_disk, stopped_at
from uninterrupted import Case

from robust_transfer.errors import OutputError
from robust_transfer.files import write_text


def begun(does: Callable[[], None]) -> int:
    """Process of its own that does something and exits with status 0, or 1 for an error."""
    number = os.fork()
    if number == 0:
        status = 1
        try:
            does()
            status = 0
        finally:
            os._exit(status)
    return number


def ended(number: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def test_a_disk_fails_from_an_event_on(tmp_path: Path) -> None:
    def write() -> None:
        failing_at(tmp_path, 6, errno.EIO)()
        write_text(tmp_path / "a", "x")  # five events and the removal of what is not there any more
        with pytest.raises(OutputError, match="Input/output error"):
            write_text(tmp_path / "b", "x")

    assert ended(begun(write)) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_writer_stops_and_goes_on(tmp_path: Path) -> None:
    def write() -> None:
        stopped_at(tmp_path, 0)()
        write_text(tmp_path / "a", "x")

    number = begun(write)
    assert os.WIFSTOPPED(os.waitpid(number, os.WUNTRACED)[1])
    assert not list(tmp_path.iterdir())
    os.kill(number, signal.SIGCONT)
    assert ended(number) == 0
    assert (tmp_path / "a").exists()


def test_a_slow_disk_takes_its_time_at_each_event(tmp_path: Path) -> None:
    def write() -> None:
        slow_disk(tmp_path, 0.02)()
        since = time.perf_counter()
        write_text(tmp_path / "a", "x")
        assert time.perf_counter() - since >= 5 * 0.02

    assert ended(begun(write)) == 0


def test_the_wall_clock_jumps_and_the_other_does_not() -> None:
    def look() -> None:
        before, since = time.time(), time.monotonic()
        jumping_clock(seed=0)()
        assert max(abs(time.time() - before) for _ in range(5)) > 86_400
        assert max(abs(time.time_ns() / 1e9 - before) for _ in range(5)) > 86_400
        assert time.monotonic() - since < 60

    assert ended(begun(look)) == 0


LINE = "robust-transfer: the disk is full\n"
TRACEBACK = "Traceback (most recent call last):\n"


@pytest.mark.parametrize(
    ("status", "told", "clear"),
    [
        (0, "", True),
        (2, LINE, True),
        (2, "", False),
        (2, 2 * LINE, False),
        (1, LINE, False),
        (2, TRACEBACK + LINE, False),
    ],
)
def test_a_clear_end_is_success_or_one_line(status: int, told: str, clear: bool) -> None:
    case = Case("a", "full-disk: x", same=True)
    failed(case, Ended(status, 1.0, told), 2)
    assert case.clear is clear
    assert record([case], 0).failed is not clear


def test_the_record_of_workers_fails_by_those_that_work_on() -> None:
    cases = [Case("study", "a worker", same=True), Case("study", "the one that hired them", same=True)]
    assert not faults_workers.record(cases, 0).failed
    cases[1].clear = False
    assert faults_workers.record(cases, 0).failed
