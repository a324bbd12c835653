"""Progress bars on standard error, each with the time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@contextmanager
def progress_bars(hidden: bool) -> Iterator[Progress]:
    """Progress bars, each with a count and the time left, on standard error."""
    what = TextColumn("{task.description}")
    columns = (what, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=hidden) as bar:
        yield bar


class Bar:
    """A progress bar with time left; entering it gives ``advance(step, loss)``."""

    def __init__(self, label: str, total: int, step: int, hidden: bool) -> None:
        loss = TextColumn("loss {task.fields[loss]}")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), loss)
        clocks = (TimeElapsedColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, *clocks, console=Console(stderr=True), disable=hidden)
        self.task = self.bar.add_task(label, total=total, completed=step, loss="")

    def __enter__(self) -> Callable[[int, float], None]:
        self.bar.start()
        return lambda step, loss: self.bar.update(self.task, completed=step, loss=f"{loss:.3f}")

    def __exit__(self, *_: object) -> None:
        self.bar.stop()
