"""Progress bars on standard error, each with the time left; and log lines (see :mod:`robust_transfer.messages`)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from robust_transfer.messages import HIDDEN, TOLD, logger
from robust_transfer.shown import one_line

log = logger(__name__)

LOG_SECONDS = 30.0  # seconds between two lines of the log on one stage


@contextmanager
def progress_bars(hidden: bool) -> Iterator[Progress]:
    """Progress bars, each with a count and the time left, on standard error."""
    what = TextColumn("{task.description}")
    columns = (what, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=hidden or _HUSHED.get()) as bar:
        yield bar


_HUSHED: ContextVar[bool] = ContextVar("hushed", default=False)


@contextmanager
def hushed(quiet: bool) -> Iterator[None]:
    """Disable bars and lines inside the block, if ``quiet``: for code without access to a run."""
    token = _HUSHED.set(quiet or _HUSHED.get())
    try:
        yield
    finally:
        _HUSHED.reset(token)


_WATCHER: ContextVar[Callable[[int], None] | None] = ContextVar("watcher", default=None)


def tick(passes: int) -> None:
    """Advance the current bar, if any, by ``passes`` image passes."""
    if (watcher := _WATCHER.get()) is not None:
        watcher(passes)


def tell(hidden: bool, text: str, *, warning: bool = False) -> None:
    """Log a line for the user: the command line shows it, unless it is ``hidden``."""
    level = logging.WARNING if warning else logging.INFO
    logger(TOLD).log(level, "%s", text, extra={HIDDEN: hidden or _HUSHED.get()})


class Stage:
    """One stage of a longer computation, with a bar in units of about ``each`` image passes.

    The bar moves as passes are made; :meth:`advance` corrects it to the units that are finished.
    """

    def __init__(self, bar: Progress, label: str, total: float | None, each: float) -> None:
        self.bar, self.each, self.settled, self.most, self.inside = bar, max(each, 1e-9), 0.0, 0.0, 0.0
        self.label, self.total, self.begun = label, total, time.monotonic()
        self.logged = self.begun
        self.task = bar.add_task(escape(one_line(label)), total=total)

    def begin(self, units: float, label: str | None = None) -> None:
        """Begin a block of ``units``; until :meth:`advance` the bar stays below its end."""
        self.most, self.inside = 0.99 * units, 0.0
        self.bar.update(self.task, description=None if label is None else escape(one_line(label)))

    def watch(self, passes: int) -> None:
        """Count image passes inside the block."""
        self.inside = min(self.inside + passes / self.each, self.most)
        self.bar.update(self.task, completed=self.settled + self.inside)

    def advance(self, units: float) -> None:
        """Mark so many units as finished."""
        self.settled, self.inside, self.most = self.settled + units, 0.0, 0.0
        self.bar.update(self.task, completed=self.settled)
        if time.monotonic() - self.logged > LOG_SECONDS:
            self.log()

    def log(self) -> None:
        """Log line on the progress."""
        self.logged = time.monotonic()
        of = f": {self.settled:g} of {self.total:g}" if self.total is not None else ""
        log.info("%s%s, %.1f s", self.label, of, self.logged - self.begun)


@contextmanager
def stage(label: str, total: float | None, hidden: bool, each: float = 1.0) -> Iterator[Stage]:
    """Bar for one stage of ``total`` units (None: unknown), advanced by passes: see :class:`Stage`."""
    with progress_bars(hidden) as bar:
        shown = Stage(bar, label, total, each)
        token = _WATCHER.set(shown.watch) if not hidden else None  # hidden: an outer bar continues to watch
        try:
            yield shown
        finally:
            if token is not None:
                _WATCHER.reset(token)
        shown.log()


class Bar:
    """Progress bar with time left; entering it gives ``advance(step, loss)``."""

    def __init__(self, label: str, total: int, step: int, hidden: bool) -> None:
        loss = TextColumn("loss {task.fields[loss]}")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), loss)
        clocks = (TimeElapsedColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, *clocks, console=Console(stderr=True), disable=hidden)
        self.task = self.bar.add_task(escape(one_line(label)), total=total, completed=step, loss="")

    def __enter__(self) -> Callable[[int, float], None]:
        self.bar.start()
        return lambda step, loss: self.bar.update(self.task, completed=step, loss=f"{loss:.3f}")

    def __exit__(self, *_: object) -> None:
        self.bar.stop()


class Download:
    """Bar of a download, in bytes, shown after the first of them."""

    def __init__(self, bar: Progress, label: str) -> None:
        self.bar, self.task = bar, bar.add_task(escape(one_line(label)), total=None, visible=False)

    def begin(self, have: int, total: int | None) -> None:
        """Start at so many bytes, of ``total`` (None: unknown); earlier bytes do not count for the speed."""
        self.bar.reset(self.task, completed=have, total=total, visible=True)

    def advance(self, count: int) -> None:
        """Add so many bytes."""
        self.bar.advance(self.task, count)


@contextmanager
def download_bar(label: str, hidden: bool) -> Iterator[Download]:
    """Bar of a download: bytes, speed and the time left."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=Console(stderr=True), disable=hidden or _HUSHED.get()
    ) as bar:
        yield Download(bar, label)
