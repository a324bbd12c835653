"""Crew of Ray actors, on this machine or on several."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from robust_transfer.errors import ConfigError
from robust_transfer.run import Run
from robust_transfer.study.dispatch import (
    Answer,
    Crew,
    Job,
    Worker,
    WorkerDiedError,
    answer_to,
    name_of_worker,
    sendable,
)
from robust_transfer.study.local_crew import limit_threads
from robust_transfer.study.recipe import Recipe
from robust_transfer.study.shared_folder import Token, prove
from robust_transfer.study.store import Store
from robust_transfer.study.work import Workshop

NODE_TIMEOUT = 300.0  # seconds for a node's proof
# One cell at a time; the dispatch, and not Ray, hires a new worker for a dead one and gives it the cell again.
ALONE = {"max_restarts": 0, "max_task_retries": 0, "max_concurrency": 1}


@contextmanager
def cluster(address: str) -> Iterator[Any]:
    """Connection to a Ray cluster; ``local`` starts one here, which ends with the block."""
    try:
        library: Any = importlib.import_module("ray")
    except ImportError:
        raise ConfigError("Ray is an extra: pip install 'robust-transfer[ray]'") from None
    try:
        library.init(address=None if address == "local" else address, include_dashboard=False, log_to_driver=False)
    except Exception as error:  # where its own processes are late, Ray raises no other class
        raise ConfigError(
            f"no Ray cluster answers at {address!r} ({error}): start one, or use --ray local, or --jobs"
        ) from None
    try:
        yield library
    finally:
        library.shutdown()


class _Actor(Worker):
    def __init__(self, ray: Any, actor: Any) -> None:
        self.ray, self.actor = ray, actor
        self.answer = actor.open.remote()

    def give(self, job: Job) -> None:
        self.answer = self.actor.do.remote(job)

    def hear(self) -> Answer:
        """Next answer; Ray reports a killed process, or a lost node, as the actor's death."""
        try:
            answer: Answer = self.ray.get(self.answer)
        except self.ray.exceptions.RayError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
            kind, detail = type(error).__name__, lines[0 if "before finishing this task" in lines[0] else -1]
            raise WorkerDiedError(f"by what Ray calls {kind}, perhaps out of memory ({detail[:200]})") from None
        return answer


class RayCrew(Crew):
    """Crew of as many actors as fit on the cluster's nodes, ``threads`` CPUs each, and a GPU where there are some."""

    advice = "see Ray's logs on the nodes; each needs robust-transfer, and memory for its cells"

    def __init__(self, ray: Any, recipe: Recipe, store: Store, run: Run, threads: int, token: Token) -> None:
        self.ray, self._opening = ray, (recipe, store, run, threads, token)
        nodes = [node for node in ray.nodes() if node["Alive"]]
        gpus = 1 if run.device != "cpu" and any(node["Resources"].get("GPU") for node in nodes) else 0
        self.size = sum(_room(node["Resources"], threads, gpus) for node in nodes)
        if not self.size:
            raise ConfigError(f"no node of the Ray cluster has {threads} CPUs for a cell: give fewer --threads")
        if len(nodes) > 1:
            self._prove_on(nodes, token)
        self._made = ray.remote(num_cpus=threads, num_gpus=gpus, **ALONE)(_Bench)

    def _prove_on(self, nodes: Sequence[dict[str, Any]], token: Token) -> None:
        """Check every node's access to the shared folder before any cell begins."""
        here = importlib.import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
        ask = self.ray.remote(num_cpus=0, max_retries=0)(_proof)
        answers = [
            ask.options(scheduling_strategy=here(node_id=node["NodeID"], soft=False)).remote(token) for node in nodes
        ]
        try:
            found = self.ray.get(answers, timeout=NODE_TIMEOUT)
        except self.ray.exceptions.RayError as error:
            raise ConfigError(f"a node of the Ray cluster cannot work ({str(error)[:300]}): {self.advice}") from None
        for refusal in found:
            if refusal is not None:
                raise refusal

    def hire(self) -> Worker:
        """Start an actor, placed by Ray."""
        return _Actor(self.ray, self._made.remote(*self._opening))

    def wait(self, workers: Sequence[Worker]) -> Sequence[Worker]:
        """Wait for answers; an actor's death counts as one."""
        answers = {worker.answer: worker for worker in workers if isinstance(worker, _Actor)}
        ready, _ = self.ray.wait(list(answers), num_returns=1)
        return [answers[answer] for answer in ready]

    def dismiss(self, worker: Worker) -> None:
        """Stop an actor at once."""
        assert isinstance(worker, _Actor)
        with suppress(self.ray.exceptions.RayError):
            self.ray.kill(worker.actor, no_restart=True)


def _room(resources: dict[str, float], threads: int, gpus: int) -> int:
    """Number of actors that a node has room for."""
    room = int(resources.get("CPU", 0) // threads)
    return min(room, int(resources.get("GPU", 0))) if gpus else room


# ---------------------------------------------------------------- on the nodes


class _Bench:
    """Code of an actor."""

    def __init__(self, recipe: Recipe, store: Store, run: Run, threads: int, token: Token) -> None:
        self.opening, self.threads, self.token = (recipe, store, run), threads, token
        self.who = name_of_worker()

    def open(self) -> Answer:
        """Answer ready, or an error."""
        if (error := _proof(self.token)) is not None:
            return Answer(self.who, error=error)
        limit_threads(self.threads)
        self.workshop = Workshop(*self.opening)
        return Answer(self.who)

    def do(self, job: Job) -> Answer:
        """Do a job."""
        return answer_to(job, self.workshop, self.who)


def _proof(token: Token) -> Exception | None:
    try:
        prove(token)
    except ConfigError as error:
        return sendable(error)
    return None
