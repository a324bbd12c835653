"""Dispatch of a study's work to a crew of workers, of any kind, some of which die.

A worker killed at work (out of memory, say) costs its current job: it is tried again on a new worker, and given up
after :data:`MAX_DEATHS` deaths. Other work goes on; but after :data:`MAX_GIVEN_UP` jobs in a row were given up, the rest is
given up untried: thousands of deaths would show no more.
"""

from __future__ import annotations

import os
import pickle
import platform
import time
import traceback
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from robust_transfer.config import digest
from robust_transfer.errors import ConfigError
from robust_transfer.study.given_up import GIVEN_UP
from robust_transfer.study.recipe import Cell, result_of
from robust_transfer.study.work import Workshop, is_settled

Group = tuple[Cell, ...]
Report = Callable[[int], object]  # called with the number of cells that have just been done
MAX_DEATHS = 3  # of workers, per job
MAX_DEATHS_AT_START = 3  # of workers in a row, before they are ready
MAX_GIVEN_UP = 8  # jobs in a row, from all over the queue, with no success in between
# Share of the queue between a job that was given up and the next one: the golden section spreads best.
JUMP = 0.382


@dataclass(frozen=True)
class Job:
    """Unit of work: cells that share a result; or, without cells, a source to be trained."""

    source: str
    cells: Group = ()


@dataclass(frozen=True)
class Answer:
    """Message of a worker: ready (``job`` None), or a finished job with its seconds; or an error."""

    who: str  # the worker's name
    job: Job | None = None
    seconds: float = 0.0
    error: Exception | None = None


class WorkerDiedError(Exception):
    """Death of a worker; the message says how it died, as far as is known."""


class Worker(ABC):
    """Process that does one job at a time. It answers once when ready, and then after each job."""

    @abstractmethod
    def give(self, job: Job) -> None:
        """Send it a job; :meth:`hear` reports its death."""

    @abstractmethod
    def hear(self) -> Answer:
        """Next answer, waiting for it. Raises :class:`WorkerDiedError`."""


class Crew(ABC):
    """Workers of one kind, ``size`` of them at a time. ``advice`` ends the error message if they die at start."""

    size: int
    advice: str

    @abstractmethod
    def hire(self) -> Worker:
        """Start a new worker."""

    @abstractmethod
    def wait(self, workers: Sequence[Worker]) -> Sequence[Worker]:
        """Wait until some of ``workers`` have an answer or are dead; returns these."""

    @abstractmethod
    def dismiss(self, worker: Worker) -> None:
        """Release a worker, dead or alive."""


@dataclass
class Outcome:
    """Outcome of a dispatch: cells that were given up, by their evaluation's address, with why; seconds that each worker
    spent on its jobs; and how many workers died.
    """

    given_up: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    deaths: int = 0


def dispatch(workshop: Workshop, work: Sequence[Group], crew: Crew, report: Report) -> Outcome:
    """Have ``crew`` do ``work``. A source to be trained comes first, its cells follow.

    Raises a worker's error, and :class:`ConfigError` where workers die at start.
    """
    return _Dispatch(workshop, crew, report).run(work)


class _Dispatch:
    def __init__(self, workshop: Workshop, crew: Crew, report: Report) -> None:
        self.workshop, self.crew, self.told, self.outcome = workshop, crew, report, Outcome()
        self.queue, self.waiting = deque[Job](), dict[str, list[Job]]()  # the latter: for their source
        self.busy, self.free, self.starting = dict[Worker, Job](), list[Worker](), set[Worker]()
        self.deaths, self.stillborn, self.hopeless = Counter[str](), 0, 0

    def run(self, work: Sequence[Group]) -> Outcome:
        for group in work:
            name = group[0].source
            if self.workshop.recipe.sources[name].pretrain is None:
                self.queue.append(Job(name, group))
            else:
                self.waiting.setdefault(name, []).append(Job(name, group))
        self.queue.extendleft(Job(name) for name in reversed(self.waiting))
        try:
            while self.queue or self.busy:
                self._staff()
                while self.queue and self.free:
                    worker, job = self.free.pop(), self.queue.popleft()
                    self.busy[worker] = job
                    worker.give(job)
                for worker in self.crew.wait([*self.busy, *self.starting]):
                    self._hear(worker)
        finally:
            for worker in (*self.busy, *self.free, *self.starting):
                self.crew.dismiss(worker)
        return self.outcome

    def _staff(self) -> None:
        """Hire as many workers as there is work for, now or soon."""
        soon = len(self.queue) + len(self.busy) + sum(map(len, self.waiting.values()))
        while len(self.busy) + len(self.free) + len(self.starting) < min(self.crew.size, soon):
            self.starting.add(self.crew.hire())

    def _hear(self, worker: Worker) -> None:
        try:
            answer = worker.hear()
        except WorkerDiedError as death:
            self.crew.dismiss(worker)
            self._died(worker, str(death))
            return
        if answer.error is not None:
            raise answer.error
        self.stillborn = 0
        self.starting.discard(worker)
        self.free.append(worker)
        if (job := self.busy.pop(worker, None)) is not None:
            self.hopeless = 0
            self.outcome.seconds[answer.who] = self.outcome.seconds.get(answer.who, 0.0) + answer.seconds
            self.told(len(job.cells))
            if not job.cells:
                self.queue.extend(self.waiting.pop(job.source, []))

    def _died(self, worker: Worker, how: str) -> None:
        self.outcome.deaths += 1
        if worker in self.starting:
            self.starting.discard(worker)
            self.stillborn += 1
            if self.stillborn == MAX_DEATHS_AT_START:
                raise ConfigError(
                    f"{MAX_DEATHS_AT_START} workers in a row died as they started ({how}): {self.crew.advice}"
                )
            return
        job = self.busy.pop(worker)
        lost = len(self.outcome.given_up)
        for left in self._after_death(job, f"{MAX_DEATHS} workers died of it, the last one {how}"):
            self.queue.appendleft(left)
        if len(self.outcome.given_up) > lost:
            self._look_elsewhere(how)

    def _after_death(self, job: Job, why: str) -> Iterator[Job]:
        """Remaining part of a job whose worker died."""
        if not job.cells:
            if self._again(f"source {job.source}"):
                yield job
                return
            for group in self.waiting.pop(job.source, []):
                self._give_up(group.cells, f"{GIVEN_UP} with its source {job.source!r}: {why}")
            return
        undone = [cell for cell in job.cells if not self.workshop.done(cell)]
        if made := len(job.cells) - len(undone):
            self.hopeless = 0
            self.told(made)
        if not undone:
            return
        # they are made in their order: it died of the first one, or of the result that all of them share
        if not is_settled(self.workshop.result_folder(undone[0])):
            culprits, name = undone, result_of(undone[0])
        else:
            culprits, name = undone[:1], repr(undone[0])
        if not self._again(name):
            self._give_up(culprits, f"{GIVEN_UP}: {why}")
            undone = undone[len(culprits) :]
        if undone:
            yield Job(job.source, tuple(undone))

    def _look_elsewhere(self, how: str) -> None:
        """Continue far away in the queue after a job was given up, as similar jobs are neighbours in it.

        If these die as well, again and again, the cause is the machine, or all remaining work: nothing more is tried.
        """
        self.hopeless += 1
        if self.hopeless < MAX_GIVEN_UP:
            self.queue.rotate(-round(JUMP * len(self.queue)))
            return
        cost = f"{MAX_DEATHS} workers each, the last one died {how}"
        why = f"{MAX_GIVEN_UP} jobs in a row, from all parts of the remaining work, had cost {cost}"
        for job in chain(self.queue, *self.waiting.values()):
            self._give_up(job.cells, f"{GIVEN_UP} untried: {why}")
        self.queue.clear()
        self.waiting.clear()

    def _again(self, name: str) -> bool:
        """Count a death at ``name``; True if it should be tried again."""
        self.deaths[name] += 1
        return self.deaths[name] < MAX_DEATHS

    def _give_up(self, cells: Sequence[Cell], why: str) -> None:
        self.outcome.given_up |= {self.workshop.evaluation_key(cell): why for cell in cells}
        self.told(len(cells))


# ---------------------------------------------------------------- in the workers


def name_of_worker() -> str:
    """Name of this process among workers of several machines, without a host name."""
    return f"{digest(platform.node())[:6]} {os.getpid()}"


def answer_to(job: Job, workshop: Workshop, who: str) -> Answer:
    """Do a job; an error becomes the answer."""
    since = time.perf_counter()
    error: Exception | None = None
    try:
        make_job(workshop, job)
    except Exception as problem:  # strategies and libraries may raise anything; the worker continues
        error = sendable(problem)
    return Answer(who, job, time.perf_counter() - since, error)


def make_job(workshop: Workshop, job: Job) -> None:
    """Train a source, or make cells, unless finished."""
    if not job.cells:
        workshop.pretrain(job.source)
    for cell in job.cells:
        if not workshop.team.from_main(workshop.done(cell)):  # a team decides together
            workshop.make(cell)


def sendable(problem: Exception) -> Exception:
    """``problem``, or an equivalent that can be sent to another process."""
    try:
        copy: Any = pickle.loads(pickle.dumps(problem))
        if type(copy) is type(problem) and str(copy) == str(problem):
            problem.add_note("".join(traceback.format_exception(problem)))
            return problem
    except Exception:  # whatever its class does
        pass
    return RuntimeError("".join(traceback.format_exception(problem)))
