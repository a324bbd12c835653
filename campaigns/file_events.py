"""Events on a command's files, seen by an audit hook: counted, or the place where its process is killed."""

from __future__ import annotations

import os
import random
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from robust_transfer.files import TEMPORARY

HOW = Literal["before", "after", "torn"]
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class Event:
    """One change of a file below the watched folder: ``what``, such as ``os.rename``, and its path."""

    what: str
    path: str

    @property
    def label(self) -> str:
        """Event without what differs between two runs."""
        path = Path(self.path)
        name = f"{path.name.rpartition('.')[0]}.*" if TEMPORARY.fullmatch(path.name) else path.name
        return f"{self.what} {re.sub(r'[0-9a-f]{16}', '*', str(path.with_name(name)))}"


def watch(folder: Path, see: Callable[[int, Event], None]) -> None:
    """Call ``see(number, event)`` before each event below ``folder`` in this process, from now on."""
    root, count, busy = os.path.realpath(folder), 0, False

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count, busy
        if busy or (name != "open" and name not in CHANGES):
            return
        busy = True  # what is done about an event is none
        try:
            event = _event(name, arguments, root)
            if event is not None:
                see(count, event)
                count += 1
        finally:
            busy = False

    sys.addaudithook(hook)


def _event(name: str, arguments: tuple[Any, ...], root: str) -> Event | None:
    if name == "open":
        mode, flags = arguments[1] or "", arguments[2] or 0
        if not (set(mode) & set("wax+") or flags & WRITES):
            return None
        name = "append" if "a" in mode else "open"
    place = arguments[1] if name == "os.rename" else arguments[0]
    if not isinstance(place, str | bytes | os.PathLike):
        return None
    path = os.path.abspath(os.fsdecode(place))
    real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    return Event(name, os.path.relpath(real, root)) if real.startswith(root + os.sep) else None


def note_events(folder: Path, log: Path) -> Callable[[], None]:
    """What a child does to write each of its events to ``log``."""

    def prepare() -> None:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        watch(folder, lambda _, event: void(os.write(file, f"{event.what}\t{event.path}\n".encode())))

    return prepare


def read_events(log: Path) -> list[Event]:
    return [Event(*line.split("\t")) for line in log.read_text(encoding="utf-8").splitlines()]


def kill_at(folder: Path, number: int, how: HOW, seed: int) -> Callable[[], None]:
    """What a child does to be killed at its event ``number``.

    ``before`` or ``after`` it takes place; ``torn``: a file that is about to take its name, or a line that was appended, is cut
    off somewhere first, as if the write had not come to its end.
    """
    draw, torn = random.Random(seed), list[tuple[str, int]]()

    def see(count: int, event: Event) -> None:
        if torn and (size := os.path.getsize(torn[0][0])) > torn[0][1]:
            os.truncate(torn[0][0], draw.randrange(torn[0][1] + 1, size) if size > torn[0][1] + 1 else torn[0][1])
            die()
        if count != number:
            return
        path = os.path.join(os.path.realpath(folder), event.path)
        if how == "before":
            die()
        elif how == "after":
            sys.setprofile(lambda *_: die())
        elif event.what == "append":
            torn.append((path, os.path.getsize(path) if os.path.exists(path) else 0))
        else:
            for temporary in Path(path).parent.iterdir():
                if TEMPORARY.fullmatch(temporary.name) and (size := temporary.stat().st_size):
                    os.truncate(temporary, draw.randrange(size))
            die()

    return lambda: watch(folder, see)


def ways(event: Event) -> tuple[HOW, ...]:
    """Ways to be killed at an event."""
    return ("before", "after", "torn") if event.what in ("append", "os.rename") else ("before", "after")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def void(_: object) -> None:
    return
