"""Commands that a signal ends: one line, the shell's exit status, and handlers as they were."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from robust_transfer.cli import base
from robust_transfer.errors import OutputError
from robust_transfer.files import write_atomically
from robust_transfer.run_folder import hold


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    """Signals as a terminal has them: under nohup, or in the background, some are ignored."""
    usual: dict[signal.Signals, Any] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {each: signal.signal(each, handler) for each, handler in usual.items()}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], Any]:
    """Exit status of the command line whose command does something."""

    def end(does: Callable[[], object]) -> Any:
        monkeypatch.setattr(base, "app", lambda **_: does())
        with pytest.raises(SystemExit) as caught:
            base.main()
        return caught.value.code

    return end


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    time.sleep(5)


@pytest.mark.parametrize(
    ("number", "status", "told"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "ended by SIGTERM"),
        (signal.SIGHUP, 129, "ended by SIGHUP"),
    ],
)
def test_one_line_and_the_status_of_the_shell(
    ended: Any, capsys: pytest.CaptureFixture[str], number: signal.Signals, status: int, told: str
) -> None:
    before = signal.getsignal(number)
    assert ended(lambda: send(number)) == status
    assert capsys.readouterr().err == (
        f"robust-transfer: {told}; the same command goes on, with --resume where it has that option\n"
    )
    assert signal.getsignal(number) is before


def test_a_write_is_dropped_whole_and_the_folder_let_go_of(ended: Any, tmp_path: Path) -> None:
    def write(path: Path) -> None:
        path.write_text("half")
        send(signal.SIGTERM)

    def command() -> None:
        with hold(tmp_path / "run"):
            write_atomically(tmp_path / "run" / "card.json", write)

    assert ended(command) == 143
    assert not list(tmp_path.iterdir())


def test_the_second_signal_ends_the_process_at_once(ended: Any) -> None:
    handlers = list[Any]()

    def command() -> None:
        try:
            send(signal.SIGTERM)
        finally:
            handlers.extend(signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM))

    assert ended(command) == 143
    assert handlers == [signal.SIG_DFL, signal.SIG_DFL]


def test_what_is_ignored_stays_ignored(ended: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert ended(lambda: os.kill(os.getpid(), signal.SIGHUP)) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_error_of_the_user_ends_as_ever(ended: Any) -> None:
    def refuse() -> None:
        raise OutputError("no")

    assert ended(refuse) == 2
