"""Signals that end a command as Ctrl-C does: what it was writing is dropped whole, locks are let go of, workers stopped."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# SIGTERM: batch systems, `timeout`, `docker stop`; SIGHUP: a terminal that is closed. Windows has no SIGHUP.
ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Ending:
    """Signal that ended the command, if one did."""

    def __init__(self) -> None:
        self.by: signal.Signals = signal.SIGINT

    @property
    def status(self) -> int:
        """Exit status: 128 and the signal's number, as shells have it."""
        return 128 + self.by

    def __str__(self) -> str:
        how = "interrupted" if self.by == signal.SIGINT else f"ended by {self.by.name}"
        return f"{how}; the same command goes on, with --resume where it has that option"


@contextmanager
def ended_by_signals() -> Iterator[Ending]:
    """Raise ``KeyboardInterrupt`` at the first of :data:`ENDING` inside the block; a second one ends the process at once.

    Signals that are ignored stay so (nohup, jobs in the background).
    """
    ending = Ending()
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield ending
        return
    before = {each: signal.getsignal(each) for each in ENDING}
    heard = [each for each, handler in before.items() if handler in (signal.SIG_DFL, signal.default_int_handler)]

    def end(number: int, _: Any) -> None:
        ending.by = signal.Signals(number)
        for each in heard:
            signal.signal(each, signal.SIG_DFL)
        raise KeyboardInterrupt

    for each in heard:
        signal.signal(each, end)
    try:
        yield ending
    finally:
        for each in heard:
            signal.signal(each, before[each])
