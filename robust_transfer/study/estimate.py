"""Estimate a study's remaining run time from image passes and measured throughput."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

import torch

from robust_transfer import losses
from robust_transfer.attacks import parse_attack
from robust_transfer.attacks.victim import attacking
from robust_transfer.classifier import Classifier, NetworkSpec
from robust_transfer.engine import Engine
from robust_transfer.evaluation import red_flags, transfer_attacks
from robust_transfer.evaluation.adversary import Adversary
from robust_transfer.evaluation.effort import effort
from robust_transfer.run import Run
from robust_transfer.study.filters import filters_are_made
from robust_transfer.study.recipe import Cell, Filters, cells
from robust_transfer.study.work import Workshop, is_checkpoint, is_evaluation, is_settled, method_of
from robust_transfer.threat import Threat

TIMED_IMAGES = 64


@dataclass
class Estimate:
    """Missing cells, sources and results, and the seconds that one process takes for them, about."""

    cells: int
    missing: int
    sources: int
    results: int
    seconds: float

    def __str__(self) -> str:
        hours, minutes = divmod(round(self.seconds / 60), 60)
        time_ = f"{hours} h {minutes} min" if hours else f"{max(1, minutes)} min"
        counted = {"source": self.sources, "result": self.results, "evaluation": self.missing}
        sources, results, evaluations = (f"{n} {what}{'s' * (n != 1)}" for what, n in counted.items())
        return (
            f"{self.cells} cells, {self.missing} of them missing: {sources} to train, {results} to make, {evaluations}; "
            f"about {time_} in one process on this machine"
        )


def estimate(workshop: Workshop) -> Estimate:
    """Look at what is there of a study, and count what is not."""
    books = _Books(workshop)
    for cell in cells(workshop.recipe):
        books.add(cell)
    if workshop.recipe.filters is not None:
        books.look(workshop.recipe.filters)
    return books.found


class _Books:
    """Tally of what has been counted so far; nothing is counted twice."""

    def __init__(self, workshop: Workshop) -> None:
        self.workshop, self.found = workshop, Estimate(0, 0, 0, 0, 0.0)
        self.counted, self.speeds = set[str](), dict[str, float]()
        self.by_source, self.by_image = dict[str, float](), dict[str, tuple[float, float]]()

    def add(self, cell: Cell) -> None:
        """Cell, and what has to be made for it."""
        workshop, found = self.workshop, self.found
        found.cells += 1
        if workshop.done(cell):
            return
        speed = self.source(cell.source)
        target = workshop.task(cell.task, cell.shots, cell.seed)
        if self._new(workshop.result_key(cell)) and not is_settled(workshop.result_folder(cell)):
            found.results += 1
            found.seconds += workshop.strategy(cell).passes(target) / speed
        if self._new(workshop.evaluation_key(cell)) and not is_evaluation(workshop.evaluation_folder(cell)):
            found.missing += 1
            each, once = self.evaluation(cell.evaluation)
            n = min(workshop.recipe.evaluations[cell.evaluation].examples or len(target.test), len(target.test))
            found.seconds += (n * each + once) / speed

    def evaluation(self, name: str) -> tuple[float, float]:
        """Image passes that an evaluation takes for each of its images, and beside them."""
        if name not in self.by_image:
            how = self.workshop.recipe.evaluations[name]
            attack = parse_attack(how.attack)
            once = transfer_attacks.passes_at_most() * how.transfer_attack_examples
            once += red_flags.passes_each(Adversary(attack, Threat.parse(how.threat))) * how.red_flag_examples
            self.by_image[name] = effort(attack), once
        return self.by_image[name]

    def look(self, how: Filters) -> None:
        """Features of sources, attacked on some images, maximised and rebuilt on others."""
        if filters_are_made(self.workshop, how):
            return
        each = how.images * (3.0 + 2.0 * how.attack_steps) + 4.0 * how.pictures * how.steps
        self.found.seconds += sum(each / self.source(name) for name in how.sources)

    def source(self, name: str) -> float:
        """Image passes a second of a source's network; if it is to be trained, that is counted, once."""
        if name not in self.by_source:
            self.by_source[name] = self._source(name)
        return self.by_source[name]

    def _source(self, name: str) -> float:
        workshop, spec = self.workshop, self.workshop.recipe.sources[name].pretrain
        key = workshop.source_key(name)
        if spec is None or is_checkpoint(workshop.store.folder("sources", key)):
            return _speed(workshop.source(name).card.network, workshop.run, self.speeds)
        task = workshop.task(spec.task, None, spec.seed)
        network = method_of(spec).network_spec(spec.network, task, spec.input_size)
        speed = _speed(network, workshop.run, self.speeds)
        if self._new(key):
            self.found.sources += 1
            self.found.seconds += method_of(spec).passes(task) / speed
        return speed

    def _new(self, key: str) -> bool:
        """True the first time."""
        if key in self.counted:
            return False
        self.counted.add(key)
        return True


def _speed(spec: NetworkSpec, run: Run, known: dict[str, float]) -> float:
    """Image passes a second of an attack's step on a fresh network of this kind, median of three."""
    name = f"{spec.name} {spec.input_size} {spec.settings}"
    if name not in known:
        device = run.torch_device()
        network = Classifier.build(spec).to(device).eval()
        x = torch.rand(TIMED_IMAGES, 3, spec.input_size, spec.input_size, device=device)
        labels, times = torch.zeros(TIMED_IMAGES, dtype=torch.long, device=device), []
        with attacking(network, device, Engine(run.dtype())) as target:
            for _ in range(3):
                begun = time.perf_counter()
                target.gradient(x, labels, losses.cross_entropy)[1].sum().item()
                times.append(time.perf_counter() - begun)
        known[name] = 2 * TIMED_IMAGES / median(times)
    return known[name]
