"""Commands run in children that are forked from an interpreter which has loaded the libraries: seconds saved on each."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from robust_transfer.cli import main

LIMIT = 300.0  # seconds of a command
STEP = 0.002  # seconds between two looks at a child
SAID, TOLD = "stdout.txt", "stderr.txt"


@dataclass(frozen=True)
class Ended:
    """End of a command: its exit status (negative: the signal), CPU seconds, and what it said on standard error."""

    status: int
    seconds: float
    told: str

    @property
    def traceback(self) -> bool:
        return "Traceback (most recent call last)" in self.told


def run(
    arguments: Sequence[str],
    folder: Path,
    *,
    prepare: Callable[[], None] | None = None,
    stop_after: float | None = None,
    by: int = signal.SIGKILL,
) -> Ended:
    """Run ``robust-transfer ARGUMENTS`` in ``folder``, after ``prepare()`` there.

    ``stop_after``: CPU seconds after which it gets the signal ``by``. CPU time, as other load on the machine must not move the moment.
    """
    child = os.fork()
    if child == 0:
        _become(arguments, folder, prepare)
    clock, begun, used, sent = (~child << 3) | 2, time.monotonic(), 0.0, False
    while True:
        ended, status, spent = os.wait4(child, os.WNOHANG)
        if ended:
            told = (folder.parent / TOLD).read_text(encoding="utf-8", errors="replace")
            return Ended(os.waitstatus_to_exitcode(status), spent.ru_utime + spent.ru_stime, told)
        try:
            used = time.clock_gettime(clock)
        except OSError:
            continue
        if time.monotonic() - begun > LIMIT:
            os.kill(child, signal.SIGKILL)
        elif stop_after is not None and not sent and used >= stop_after:
            os.kill(child, by)
            sent = True
        time.sleep(STEP)


def _become(arguments: Sequence[str], folder: Path, prepare: Callable[[], None] | None) -> None:
    """Be the command, and end with its status."""
    status = 1
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.chdir(folder)
        for stream, name in ((sys.stdout, SAID), (sys.stderr, TOLD)):
            stream.flush()
            file = os.open(folder.parent / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, stream.fileno())
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
    before = set(sys.modules)

    def prepare() -> None:
        ending = os._exit

        def noting(status: int) -> None:
            names.write_text("\n".join(sys.modules), encoding="utf-8")
            ending(status)

        os._exit = noting  # type: ignore[assignment]

    ended = run(arguments, folder, prepare=prepare)
    for name in names.read_text(encoding="utf-8").split():
        if name not in before and name.partition(".")[0] != "__main__":
            try:
                import_module(name)
            except Exception:  # made by a library as it ran: it is not to be found by its name
                continue
    return ended
