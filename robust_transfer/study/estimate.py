"""Estimate of a study's remaining run time, from image passes and measured throughput, and of its disk space."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

import torch

from robust_transfer import corruptions, losses
from robust_transfer.attacks import parse_attack
from robust_transfer.attacks.victim import attacking
from robust_transfer.classifier import Classifier, NetworkSpec
from robust_transfer.data import Task
from robust_transfer.data.fingerprints import BYTES
from robust_transfer.engine import Engine
from robust_transfer.evaluation import red_flags, transfer_attacks
from robust_transfer.evaluation.adversary import Adversary
from robust_transfer.evaluation.corrupted import EACH
from robust_transfer.evaluation.effort import effort
from robust_transfer.run import Run
from robust_transfer.study.filters import filters_are_made
from robust_transfer.study.recipe import Cell, Filters, cells, result_of
from robust_transfer.study.schedule import makespan
from robust_transfer.study.work import Workshop, is_checkpoint, is_evaluation, is_settled, method_of
from robust_transfer.threat import Threat

TIMED_IMAGES = 64
# As benchmarks/scale.py measures them: seconds until a worker begins, of bookkeeping for each cell, and of its row in the end.
START, BESIDE, ROW = 10.0, 0.2, 0.002
RECORD_BYTES = 10_000  # bytes of what a result or an evaluation says of itself
OUTCOME_BYTES = 20  # and of each image of an evaluation


@dataclass(frozen=True)
class Crew:
    """Identical machines, with ``processes`` concurrent processes each."""

    nodes: int = 1
    processes: int = 1

    @property
    def workers(self) -> int:
        """Number of processes in all."""
        return self.nodes * self.processes

    def __str__(self) -> str:
        each = f"{self.processes} process{'es' * (self.processes != 1)}"
        return f"{self.nodes} machines like this one with {each} each" if self.nodes > 1 else each


@dataclass
class Estimate:
    """Missing cells, sources and results, and their approximate cost: time, and ``stored`` bytes on disk.

    ``trained``: seconds for each missing source; ``pieces``: seconds of cells that share a result, with their source;
    ``alone``: seconds of work that one process does for all.
    """

    cells: int = 0
    missing: int = 0
    sources: int = 0
    results: int = 0
    trained: dict[str, float] = field(default_factory=dict)
    pieces: list[tuple[str, float]] = field(default_factory=list)
    alone: float = 0.0
    stored: float = 0.0
    crew: Crew = Crew()

    @property
    def seconds(self) -> float:
        """Seconds of the work itself in one process."""
        return sum(self.trained.values()) + sum(seconds for _, seconds in self.pieces) + self.alone

    @property
    def bookkeeping(self) -> float:
        """Seconds of overhead over all processes."""
        return self.crew.workers * START + self.missing * BESIDE + self.cells * ROW

    @property
    def elapsed(self) -> float:
        """Wall-clock seconds with the crew, overhead included, if no process slows another down."""
        each = self.missing * BESIDE / len(self.pieces) if self.pieces else 0.0
        work = [(source, seconds + each) for source, seconds in self.pieces]
        return START + makespan(self.trained, work, self.crew.workers) + self.alone + self.cells * ROW

    def __str__(self) -> str:
        counted = {"source": self.sources, "result": self.results, "evaluation": self.missing}
        sources, results, evaluations = (f"{n} {what}{'s' * (n != 1)}" for what, n in counted.items())
        lines = [f"about {_duration(self.seconds)} in one process on this machine"]
        if self.crew.workers > 1 and self.missing:
            share = 100 * self.bookkeeping / (self.bookkeeping + self.seconds)
            lines.append(
                f"{_duration(self.elapsed)} in {self.crew}, bookkeeping included ({share:.2g} % of their work)"
            )
        return (
            f"{self.cells} cells, {self.missing} of them missing: {sources} to train, {results} to make, {evaluations}; "
            f"{', '.join(lines)}; {_size(self.stored)} on the disk"
        )


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{max(1, minutes)} min"


def _size(count: float) -> str:
    """Bytes in a suitable unit."""
    for unit, size in (("TB", 1e12), ("GB", 1e9)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e6:.0f} MB"


def estimate(workshop: Workshop, crew: Crew = Crew()) -> Estimate:
    """Estimate the missing part of a study."""
    books = _Books(workshop)
    for cell in cells(workshop.recipe):
        books.add(cell)
    if workshop.recipe.filters is not None:
        books.look(workshop.recipe.filters)
    books.found.pieces = [piece for piece in books.pieces.values() if piece[1]]
    books.found.crew = crew
    return books.found


class _Network(NamedTuple):
    """Kind of network: image passes per second, bytes of its weights, number of its features, pixels a side."""

    speed: float
    size: int
    features: int
    input_size: int


class _Books:
    """Tally of the counted work; nothing is counted twice."""

    def __init__(self, workshop: Workshop) -> None:
        self.workshop, self.found = workshop, Estimate()
        self.pieces = dict[str, tuple[str, float]]()  # by result
        self.counted, self.kinds = set[str](), dict[str, _Network]()
        self.by_size = dict[int, float]()
        self.by_source, self.by_image = dict[str, _Network](), dict[str, tuple[float, float]]()

    def add(self, cell: Cell) -> None:
        """Add a cell and its prerequisites."""
        workshop, found, seconds = self.workshop, self.found, 0.0
        found.cells += 1
        if workshop.done(cell):
            return
        network = self.source(cell.source)
        target = workshop.task(cell.task, cell.shots, cell.seed)
        if self._new(workshop.result_key(cell)) and not is_settled(workshop.result_folder(cell)):
            found.results += 1
            found.stored += network.size + _known_by(target) + self._source_prints(cell.source) + RECORD_BYTES
            seconds += workshop.strategy(cell).forecast(target) / network.speed
            if self._new(f"features of {workshop.source_key(cell.source)} on {target.train.hash} {target.val.hash}"):
                found.stored += 4 * network.features * (len(target.train) + len(target.val))
        if self._new(workshop.evaluation_key(cell)) and not is_evaluation(workshop.evaluation_folder(cell)):
            found.missing += 1
            each, once = self.evaluation(cell.evaluation)
            images = len(workshop.judged_on(cell))
            n = min(workshop.recipe.evaluations[cell.evaluation].examples or images, images)
            seconds += (n * each + once) / network.speed
            if workshop.recipe.evaluations[cell.evaluation].corruptions:
                seconds += n * self.corrupting(network.input_size)
            found.stored += RECORD_BYTES + OUTCOME_BYTES * n
        before = self.pieces.get(name := result_of(cell), (cell.source, 0.0))[1]
        self.pieces[name] = cell.source, before + seconds

    def evaluation(self, name: str) -> tuple[float, float]:
        """Image passes of an evaluation: per image, and beside them."""
        if name not in self.by_image:
            how = self.workshop.recipe.evaluations[name]
            attack = parse_attack(how.attack)
            once = transfer_attacks.passes_at_most() * how.transfer_attack_examples
            once += red_flags.passes_each(Adversary(attack, Threat.parse(how.threat))) * how.red_flag_examples
            each = effort(attack) * (1 + len(how.also)) + EACH * how.corruptions
            self.by_image[name] = each, once
        return self.by_image[name]

    def corrupting(self, size: int) -> float:
        """Seconds that the corruptions of an image take."""
        if size not in self.by_size:
            self.by_size[size] = corruptions.seconds_each(torch.randint(0, 256, (3, size, size), dtype=torch.uint8))
        return self.by_size[size]

    def look(self, how: Filters) -> None:
        """Image passes of feature images: attacks, maximisation and inversion on a source's features."""
        if filters_are_made(self.workshop, how):
            return
        each = how.images * (3.0 + 2.0 * how.attack_steps) + 4.0 * how.pictures * how.steps
        self.found.alone += sum(each / self.source(name).speed for name in how.sources)

    def source(self, name: str) -> _Network:
        """Network of a source; its training is counted once."""
        if name not in self.by_source:
            self.by_source[name] = self._source(name)
        return self.by_source[name]

    def _source(self, name: str) -> _Network:
        workshop, spec = self.workshop, self.workshop.recipe.sources[name].pretrain
        key = workshop.source_key(name)
        if spec is None or is_checkpoint(workshop.store.folder("sources", key)):
            return _measured(workshop.source(name).card.network, workshop.run, self.kinds)
        task = workshop.task(spec.task, None, spec.seed)
        network = _measured(method_of(spec).network_spec(spec.network, task, spec.input_size), workshop.run, self.kinds)
        if self._new(key):
            self.found.sources += 1
            self.found.trained[name] = method_of(spec).passes(task) / network.speed
            self.found.stored += network.size + _known_by(task) + RECORD_BYTES
        return network

    def _source_prints(self, name: str) -> int:
        """Bytes of the fingerprints that results inherit from a source."""
        spec = self.workshop.recipe.sources[name].pretrain
        if spec is not None:
            return _known_by(self.workshop.task(spec.task, None, spec.seed))
        seen = self.workshop.source(name).trained_on
        return BYTES * sum(len(level.train) + len(level.val) for level in seen.levels) if seen is not None else 0

    def _new(self, key: str) -> bool:
        """True at the first call with these arguments."""
        if key in self.counted:
            return False
        self.counted.add(key)
        return True


def _known_by(task: Task) -> int:
    """Bytes of the fingerprints of training images."""
    return BYTES * (len(task.train) + len(task.val))


def _measured(spec: NetworkSpec, run: Run, known: dict[str, _Network]) -> _Network:
    """Fresh network of this kind, with the speed of an attack step (median of three)."""
    name = f"{spec.name} {spec.input_size} {spec.settings}"
    if name not in known:
        device = run.torch_device()
        network = Classifier.build(spec).to(device).eval()
        x = torch.rand(TIMED_IMAGES, 3, spec.input_size, spec.input_size, device=device)
        labels, times = torch.zeros(TIMED_IMAGES, dtype=torch.long, device=device), []
        with attacking(network, device, Engine(run.dtype())) as target:
            for _ in range(3):
                started = time.perf_counter()
                target.gradient(x, labels, losses.cross_entropy)[1].sum().item()
                times.append(time.perf_counter() - started)
        size = sum(value.nbytes for value in network.state_dict().values())
        known[name] = _Network(2 * TIMED_IMAGES / median(times), size, network.num_features, spec.input_size)
    return known[name]
