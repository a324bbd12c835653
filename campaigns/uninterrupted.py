"""Uninterrupted runs of the small commands, which the others are compared with."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", PYTHONDONTWRITEBYTECODE="1")

import forked
import small_commands
from file_events import Event, note_events, read_events
from same_results import contents, damaged, differences, held, leftovers
from small_commands import BEGINNINGS, OUT, Command


@dataclass(frozen=True)
class Whole:
    """Uninterrupted run: what it made, its CPU seconds, its file events, and what was there before."""

    made: dict[str, Any]
    seconds: float
    events: list[Event]
    began: dict[str, Any] = field(default_factory=dict)


@dataclass
class Case:
    """One fault, or one kill, and what came of it. ``told``: the last words of a command that did not end as it should."""

    command: str
    fault: str
    injected: int = 0
    same: bool = False
    clear: bool = True
    damaged: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    strays: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    told: str = ""
    statuses: list[int] = field(default_factory=list)

    @property
    def survived(self) -> bool:
        return self.same and self.clear and not (self.damaged or self.leftovers or self.held)


def begin(work: Path) -> None:
    """Make what the commands begin with, in ``work``, unless it is there."""
    work.mkdir(parents=True, exist_ok=True)
    small_commands.prepare(work)
    for name, arguments in BEGINNINGS.items():
        if not (work / name).exists():
            ended = forked.loaded_by(arguments, work / "begin")
            if ended.status:
                sys.exit(f"{name}: {ended.told}")
            shutil.move(work / "begin" / OUT, work / name)
            shutil.rmtree(work / "begin")


def beginning(command: Command, work: Path, name: str) -> Path:
    """New folder to run a command in."""
    folder = work / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if command.begins is not None:
        shutil.copytree(work / command.begins, folder / OUT)
    return folder


def uninterrupted(command: Command, work: Path) -> Whole:
    """Run a command twice: to load what it needs, and for its events. Both have to make the same.

    Raises :class:`RuntimeError` where they do not, or fail.
    """
    folder = beginning(command, work, "whole")
    ended = forked.loaded_by(command.arguments, folder)
    if ended.status:
        raise RuntimeError(f"{command.name}: {ended.told}")
    first, log = contents(folder), work / "events.txt"
    folder = beginning(command, work, "whole")
    began = contents(folder)
    ended = forked.run(command.arguments, folder, prepare=note_events(folder, log))
    made = contents(folder)
    if found := differences(first, made):
        raise RuntimeError(f"{command.name}: two uninterrupted runs differ in {', '.join(found)}")
    return Whole(made, ended.seconds, read_events(log), began)


def each_uninterrupted(only: str, work: Path) -> Iterator[tuple[Command, Whole]]:
    """Small commands whose names begin as one of ``only``, separated by commas (empty: all), with their uninterrupted runs.

    One that cannot be run here, without an extra for instance, is told and left out.
    """
    for command in small_commands.chosen([name for name in only.split(",") if name]):
        try:
            yield command, uninterrupted(command, work)
        except RuntimeError as error:
            print(f"left out: {error}", flush=True)


def look(case: Case, folder: Path, whole: Whole) -> None:
    """Note files that are not whole, after an interruption."""
    case.damaged += tuple(damaged(folder, whole.made, whole.began))


def go_on(case: Case, command: Command, folder: Path, whole: Whole) -> Case:
    """Go on as a user does, and note what is there in the end."""
    for options in command.goes_on:
        ended = forked.run((*command.arguments, *options), folder)
        if ended.status == 0 or ended.traceback:
            break
    found = differences(contents(folder), whole.made)
    case.same = ended.status == 0 and not found
    if not case.same:
        case.told += ended.told[-2000:] if ended.status else f"differ: {', '.join(found)}"
    left = leftovers(folder)
    case.strays = tuple(name for name in left if command.unlocked and name.count("/") == 1)
    case.leftovers, case.held = tuple(name for name in left if name not in case.strays), tuple(held(folder))
    return case
