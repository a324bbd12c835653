"""Makespan, against closed forms and the dispatch itself on a simulated clock."""

from __future__ import annotations

import random
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from robust_transfer.study.dispatch import Answer, Crew, Job, Worker, dispatch
from robust_transfer.study.recipe import Cell
from robust_transfer.study.schedule import makespan


@pytest.mark.parametrize(
    ("trained", "work", "workers", "seconds"),
    [
        ({}, [], 3, 0.0),
        ({}, [("a", 2.0)] * 7, 1, 14.0),
        ({}, [("a", 2.0)] * 7, 3, 6.0),
        ({}, [("a", 1.0)] * 4 + [("a", 9.0)], 4, 10.0),  # the long one comes last, as the grid has it
        ({"a": 10.0}, [("a", 1.0)] * 6, 2, 13.0),
        ({"a": 10.0}, [("a", 1.0)] * 6 + [("b", 3.0)] * 4, 2, 14.0),  # b's until 12, a's from 10 on beside them
        ({"a": 5.0, "c": 1.0}, [("a", 1.0), ("c", 1.0), ("b", 7.0)], 2, 8.0),
        ({"a": 5.0}, [("a", 2.0)], 9, 7.0),
    ],
)
def test_what_is_known_in_closed_form(
    trained: dict[str, float], work: list[tuple[str, float]], workers: int, seconds: float
) -> None:
    assert makespan(trained, work, workers) == seconds


class Clocked(Worker):
    """Says that it is ready at once, and that a job is done when the clock has come to its end."""

    def __init__(self, crew: ClockedCrew) -> None:
        self.crew, self.until, self.order, self.job = crew, 0.0, 0, None

    job: Job | None

    def give(self, job: Job) -> None:
        self.crew.given += 1
        self.job, self.until, self.order = job, self.crew.now + self.crew.seconds[job], self.crew.given

    def hear(self) -> Answer:
        return Answer("who", self.job)


class ClockedCrew(Crew):
    advice = ""

    def __init__(self, size: int, seconds: Any) -> None:
        self.size, self.seconds, self.now, self.given = size, seconds, 0.0, 0

    def hire(self) -> Worker:
        return Clocked(self)

    def wait(self, workers: Sequence[Worker]) -> Sequence[Worker]:
        first = min((some for some in workers if isinstance(some, Clocked)), key=lambda some: (some.until, some.order))
        self.now = first.until
        return [first]

    def dismiss(self, worker: Worker) -> None:
        pass


class Seconds(dict[str, float]):
    """Of a job, by its first cell's seed or its source."""

    def __getitem__(self, job: Any) -> float:
        return super().__getitem__(f"{job.cells[0].seed}" if job.cells else job.source)


@pytest.mark.parametrize("seed", range(20))
def test_it_is_what_the_dispatch_comes_to(seed: int) -> None:
    draw = random.Random(seed)
    sources = {name: draw.choice([None, float(draw.randint(1, 50))]) for name in "abcd"}
    work = [(draw.choice("abcd"), float(draw.randint(1, 30))) for _ in range(draw.randint(1, 60))]
    needed = {name: seconds for name, _ in work if (seconds := sources[name]) is not None}
    cells = [
        Cell(source=name, task="t", strategy="s", shots=None, seed=number, evaluation="e")
        for number, (name, _) in enumerate(work)
    ]
    recipe = SimpleNamespace(
        sources={name: SimpleNamespace(pretrain=seconds and "so") for name, seconds in sources.items()}
    )
    durations = Seconds({f"{number}": each for number, (_, each) in enumerate(work)} | needed)
    crew = ClockedCrew(draw.randint(1, 7), durations)
    workshop: Any = SimpleNamespace(recipe=recipe)
    dispatch(workshop, [(cell,) for cell in cells], crew, lambda count: None)
    assert makespan(needed, work, crew.size) == crew.now
