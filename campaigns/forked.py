"""Commands run in children that are forked from an interpreter which has loaded the libraries: seconds saved on each."""

from __future__ import annotations

import functools
import gc
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import typer

from robust_transfer.cli import app, catalogue, main

LIMIT = 300.0  # seconds of a command
STEP = 0.002  # seconds between two looks at a child

Prepare = Callable[[], None]


@dataclass(frozen=True)
class Ended:
    """End of a command: its exit status (negative: the signal), CPU seconds, and what it said on standard error."""

    status: int
    seconds: float
    told: str

    @property
    def traceback(self) -> bool:
        return "Traceback (most recent call last)" in self.told


class Child:
    """Command ``robust-transfer ARGUMENTS`` at work in ``folder``, after ``prepare()`` there."""

    def __init__(self, arguments: Sequence[str], folder: Path, prepare: Prepare | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.told = folder.parent / f"{folder.name}-{time.monotonic_ns()}.txt"
        self.number = os.fork()
        if self.number == 0:
            _become(arguments, folder, self.told, prepare)
        self._clock, self._begun = (~self.number << 3) | 2, time.monotonic()

    def used(self) -> float:
        """CPU seconds so far."""
        try:
            return time.clock_gettime(self._clock)
        except OSError:  # it has just ended
            return 0.0

    def seconds(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._begun

    def stopped(self) -> bool:
        """True once it was stopped by SIGSTOP; waits until it has been, or has ended."""
        found = os.waitid(os.P_PID, self.number, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        return found is not None and found.si_code == os.CLD_STOPPED

    def poll(self) -> Ended | None:
        """End of it, None while it is at work. After :data:`LIMIT` it is killed."""
        ended, status, spent = os.wait4(self.number, os.WNOHANG)
        if not ended:
            if self.seconds() > LIMIT:
                os.kill(self.number, signal.SIGKILL)
            return None
        told = self.told.read_text(encoding="utf-8", errors="replace")
        self.told.unlink()
        return Ended(os.waitstatus_to_exitcode(status), spent.ru_utime + spent.ru_stime, told)

    def wait(self) -> Ended:
        while (ended := self.poll()) is None:
            time.sleep(STEP)
        return ended


def run(
    arguments: Sequence[str],
    folder: Path,
    *,
    prepare: Prepare | None = None,
    stop_after: float | None = None,
    by: int = signal.SIGKILL,
) -> Ended:
    """Run a command to its end.

    ``stop_after``: CPU seconds after which it gets the signal ``by``; other load on the machine does not move that moment.
    """
    child = Child(arguments, folder, prepare)
    while (ended := child.poll()) is None:
        if stop_after is not None and child.used() >= stop_after:
            os.kill(child.number, by)
            return child.wait()
        time.sleep(STEP)
    return ended


def _prepare_parser() -> None:
    """Build the command line's parser here, once: it writes no file, and takes as long as a small command."""
    if not hasattr(typer.main.get_command, "cache_info"):
        typer.main.get_command = functools.cache(typer.main.get_command)
        catalogue.catalogue = functools.cache(catalogue.catalogue)
    typer.main.get_command(app)
    for kind in ("pretraining", "strategies"):
        catalogue.catalogue(kind)


def _become(arguments: Sequence[str], folder: Path, told: Path, prepare: Prepare | None) -> None:
    """Be the command, and end with its status."""
    status = 1
    try:
        os.chdir(folder)
        for stream, path in ((sys.stdout, Path(os.devnull)), (sys.stderr, told)):
            stream.flush()
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream.fileno())
        sys.argv = ["robust-transfer", *arguments]
        if prepare is not None:
            prepare()
        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0
    except BaseException:  # what the interpreter would show
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def loaded_by(arguments: Sequence[str], folder: Path) -> Ended:
    """Run a command once, and load what it has loaded here, for all later children."""
    names = folder.parent / "modules.txt"

    def prepare() -> None:
        ending = os._exit

        def noting(status: int) -> None:
            names.write_text("\n".join(sys.modules), encoding="utf-8")
            ending(status)

        os._exit = noting  # type: ignore[assignment]

    ended = run(arguments, folder, prepare=prepare)
    for name in names.read_text(encoding="utf-8").split():
        if name not in sys.modules:
            try:
                import_module(name)
            except Exception:  # made by a library as it ran: it is not to be found by its name
                continue
    _prepare_parser()
    gc.freeze()  # children then share these pages
    return ended
