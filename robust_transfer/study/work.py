"""Make a cell: its source, its result and its evaluation, each once for all cells that need it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robust_transfer import corruptions, tracking
from robust_transfer.checkpoint import CARD, WEIGHTS, Card, Checkpoint, load_checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.config import as_dict, digest
from robust_transfer.data import Dataset, Split, Task
from robust_transfer.data.classes import only_classes
from robust_transfer.errors import ConfigError, DivergedError, OutputError
from robust_transfer.evaluation import evaluate
from robust_transfer.evaluation.outcomes import EVALUATION
from robust_transfer.evaluation.renamed import RECIPE
from robust_transfer.evaluation.resume import discard_state, goes_on
from robust_transfer.files import write_json
from robust_transfer.manifest import LOCK
from robust_transfer.pretraining import PRETRAINING, Pretraining
from robust_transfer.run import Run
from robust_transfer.run_folder import hold
from robust_transfer.sources import load_source
from robust_transfer.strategies import STRATEGIES, Strategy
from robust_transfer.study.recipe import Cell, Pretrained, Recipe, result_of
from robust_transfer.study.store import Store
from robust_transfer.texts import read_json
from robust_transfer.threat import Threat
from robust_transfer.training import state
from robust_transfer.training.processes import Processes

FAILED = "failed.json"
LATER = ("also", "corruptions")  # of an evaluation's settings
LONGEST = 200  # characters of a tracker's title, which is a folder's name, too


@dataclass
class Workshop:
    """Make the cells of a recipe in a store. ``run``: device, precision and threads.

    Data sets, tasks and sources are kept in memory once loaded: many cells use them.
    """

    recipe: Recipe
    store: Store
    run: Run
    team: Processes = field(init=False)
    _datasets: dict[str, Dataset] = field(default_factory=dict)
    _tasks: dict[tuple[str, int | None, int], Task] = field(default_factory=dict)
    _sources: dict[str, Checkpoint] = field(default_factory=dict)
    _source_keys: dict[str, str] = field(default_factory=dict)
    _strategies: dict[str, Strategy] = field(default_factory=dict)
    _keys: dict[str, str] = field(default_factory=dict)  # of results and evaluations
    _settled: dict[str, str | None] = field(
        default_factory=dict
    )  # cells that need nothing more: why they failed, or None

    def __post_init__(self) -> None:
        self.team = Processes(self.run.torch_device())

    # ------------------------------------------------------------ what cells share

    def task(self, name: str, shots: int | None, seed: int) -> Task:
        """Task of the recipe."""
        key = name, shots, seed
        if key not in self._tasks:
            spec = self.recipe.tasks[name]
            whole = self._dataset(spec.data).task(shots=shots, seed=seed, val=spec.val)
            self._tasks[key] = whole if spec.classes is None else only_classes(whole, spec.classes)
        return self._tasks[key]

    def _dataset(self, name: str) -> Dataset:
        """Data of the recipe, or of this name."""
        return self._datasets.setdefault(name, Dataset(self.recipe.data.get(name, name)))

    def judged_on(self, cell: Cell) -> Split:
        """Images that a cell's evaluation is of."""
        task = self.task(cell.task, cell.shots, cell.seed)
        return task.val if self.recipe.evaluations[cell.evaluation].split == "val" else task.test

    def task_of(self, cell: Cell) -> Task:
        """Cell's task, its classes weighted as the cell says."""
        task = self.task(cell.task, cell.shots, cell.seed)
        return task if cell.class_weights is None else task.balanced()

    def source(self, name: str) -> Checkpoint:
        """Source of the recipe: loaded, or trained if missing."""
        if name not in self._sources:
            spec = self.recipe.sources[name]
            if spec.use is not None:
                self._sources[name] = load_source(spec.use)
            else:
                self.pretrain(name)
                folder = self.store.folder("sources", self.source_key(name))
                if (reason := _failure(folder)) is not None:
                    raise DivergedError(reason)
                self._sources[name] = load_checkpoint(folder)
        return self._sources[name]

    def source_key(self, name: str) -> str:
        """Content address of a source; for a loaded one, from its weights and threat."""
        if name not in self._source_keys:  # weights are hashed once
            self._source_keys[name] = self._source_key(name)
        return self._source_keys[name]

    def _source_key(self, name: str) -> str:
        spec = self.recipe.sources[name]
        if spec.pretrain is None:
            loaded = self.source(name)
            return digest("source", loaded.hash, loaded.card.threat, loaded.card.class_names, loaded.card.network)
        how = {**as_dict(spec.pretrain), "task": None, "set": as_dict(method_of(spec.pretrain))}
        return digest("source", how, *self._how(), _content(self.task(spec.pretrain.task, None, spec.pretrain.seed)))

    def refuse_impossible(self, cells: Iterable[Cell]) -> None:
        """Raise :class:`ConfigError` for strategies and corruptions that cannot work, without any training."""
        looked, sources = set[str](), dict[str, Checkpoint]()
        for cell in cells:
            if self.recipe.evaluations[cell.evaluation].split == "val" and not len(self.judged_on(cell)):
                raise ConfigError(
                    f"evaluations.{cell.evaluation} is on val, and {cell.task} has none: give its val a share"
                )
            if cell.source not in sources:
                sources[cell.source] = self._sketch(cell.source)
            if self.recipe.evaluations[cell.evaluation].corruptions:
                corruptions.library()
                corruptions.check(sources[cell.source].input_size)
            named = result_of(cell, seed=False)  # the seed makes no difference
            if named in looked:
                continue
            looked.add(named)
            try:
                self.strategy(cell).check(sources[cell.source], self.task_of(cell))
            except ConfigError as error:
                where = f"{cell.strategy} from {cell.source} on {cell.task}"
                raise type(error)(f"{where}: {error}") from None

    def _sketch(self, name: str) -> Checkpoint:
        """Source; an untrained one is complete except for its weights."""
        how = self.recipe.sources[name].pretrain
        if how is None or is_checkpoint(self.store.folder("sources", self.source_key(name))):
            return self.source(name)
        method, task = method_of(how), self.task(how.task, None, how.seed)
        spec = method.network_spec(how.network, task, how.input_size)
        threat = Threat.parse(how.threat) if method.adversarial else None
        return Checkpoint(
            Classifier.build(spec), Card(network=spec, class_names=task.class_names, method="", threat=threat)
        )

    def pretrain(self, name: str) -> None:
        """Train a source if it has to be and is missing."""
        if self.recipe.sources[name].pretrain is not None:
            key = self.source_key(name)
            self.store.once("sources", key, is_settled, lambda out: self._pretrain(name, out), self.team)

    def _pretrain(self, name: str, out: Path) -> None:
        spec = self.recipe.sources[name].pretrain
        assert spec is not None
        task = self.task(spec.task, None, spec.seed)
        run = self._into(out, spec.seed)
        method, size = method_of(spec), spec.input_size
        try:
            with self._tracked(out, "source", name):
                method(task, network=spec.network, threat=spec.threat, input_size=size, run=run)
        except DivergedError as error:
            state.discard(out)
            write_json(out / FAILED, {"reason": f"the source {name!r}: {error}"})

    # ------------------------------------------------------------ a cell

    def strategy(self, cell: Cell) -> Strategy:
        """Cell's strategy with its settings."""
        named = repr((cell.strategy, cell.each))
        if named not in self._strategies:
            spec = self.recipe.strategies[cell.strategy]
            cls, settings = STRATEGIES.get(spec.strategy), {**spec.set, **cell.each}
            paths = {name: self.recipe.data.get(at, at) for name in cls.data_settings if (at := settings.get(name))}
            self._strategies[named] = cls.from_settings({**settings, **paths})
        return self._strategies[named]

    def _settings(self, strategy: Strategy) -> dict[str, Any]:
        """Settings that a result depends on: of data its content, wherever it lies."""
        named = {name: getattr(strategy, name) for name in strategy.data_settings}
        content = {name: _hash(self._dataset(at).task().train) for name, at in named.items() if at is not None}
        return {**as_dict(strategy), **content}

    def result_key(self, cell: Cell) -> str:
        """Content address of a cell's result."""
        return self._kept(result_of(cell), lambda: self._result_key(cell))

    def _kept(self, name: str, make: Callable[[], str]) -> str:
        if name not in self._keys:
            self._keys[name] = make()
        return self._keys[name]

    def _result_key(self, cell: Cell) -> str:
        what = self.recipe.strategies[cell.strategy].strategy, self._settings(self.strategy(cell)), cell.seed
        task, weights = self.task(cell.task, cell.shots, cell.seed), cell.class_weights
        weighted = [f"class_weights={weights}"] if weights is not None else []
        return digest("result", self.source_key(cell.source), *what, *self._how(), _content(task), *weighted)

    def _how(self) -> tuple[str, int]:
        """Conditions of training beside its settings: precision, and the number of processes per minibatch."""
        return str(self.run.dtype()), self.team.world

    def evaluation_key(self, cell: Cell) -> str:
        """Content address of a cell's evaluation."""
        return self._kept(repr(cell), lambda: self._evaluation_key(cell))

    def _evaluation_key(self, cell: Cell) -> str:
        how, judged_on = self.recipe.evaluations[cell.evaluation], self.judged_on(cell)
        named = as_dict(how)
        named.pop("split")  # its images say so
        for name in [
            name for name in LATER if not named[name]
        ]:  # an evaluation without them is that of earlier versions
            named.pop(name)
        settings = {old: named.pop(new) for old, new in RECIPE.items()} | named  # as earlier versions called them
        return digest("evaluation", self.result_key(cell), settings, self.run.precision, _hash(judged_on))

    def result_folder(self, cell: Cell) -> Path:
        """Folder of a cell's result."""
        return self.store.folder("results", self.result_key(cell))

    def evaluation_folder(self, cell: Cell) -> Path:
        """Folder of a cell's evaluation."""
        return self.store.folder("evaluations", self.evaluation_key(cell))

    def done(self, cell: Cell) -> bool:
        """True if a cell is finished for good: evaluated, or its training diverged and would again."""
        if (key := self.evaluation_key(cell)) not in self._settled:
            failure = self._failure_of(cell)
            if failure is not None or is_evaluation(self.store.folder("evaluations", key)):
                self._settled[key] = failure
        return key in self._settled

    def failure(self, cell: Cell) -> str | None:
        """Reason why a cell has no result, if its training or its source's diverged; else None."""
        key = self.evaluation_key(cell)
        return self._settled[key] if key in self._settled else self._failure_of(cell)

    def _failure_of(self, cell: Cell) -> str | None:
        source = self.store.folder("sources", self.source_key(cell.source))
        return _failure(source) or _failure(self.result_folder(cell))

    def make(self, cell: Cell) -> None:
        """Make everything that a cell needs and lacks."""
        self.pretrain(cell.source)
        if self.failure(cell) is not None:
            return
        result = self.store.once(
            "results", self.result_key(cell), is_settled, lambda out: self._transfer(cell, out), self.team
        )
        if self.failure(cell) is None:
            key = self.evaluation_key(cell)
            self.store.once("evaluations", key, is_evaluation, lambda out: self._evaluate(cell, result, out), self.team)

    def _transfer(self, cell: Cell, out: Path) -> None:
        task, source = self.task_of(cell), self.source(cell.source)
        try:
            with self._tracked(out, *_words(cell)):
                self.strategy(cell)(source, task, run=self._into(out, cell.seed))
        except DivergedError as error:  # in all processes of the team
            write_json(out / FAILED, {"reason": str(error)})

    def _evaluate(self, cell: Cell, result: Path, out: Path) -> None:
        how, source = self.recipe.evaluations[cell.evaluation], self.source(cell.source)
        if not self.team.main:
            return
        with self._tracked(out, *_words(cell), cell.evaluation):
            evaluate(
                load_checkpoint(result),
                self.judged_on(cell),
                threat=how.threat,
                attack=how.attack,
                examples=how.examples,
                run=self._into(out, 0),  # of every seed's result the same images, with the same noise
                source=source,
                transfer_attack_examples=how.transfer_attack_examples,
                red_flag_examples=how.red_flag_examples,
                also=how.also,
                corruptions=how.corruptions,
            )

    def _tracked(self, out: Path, *words: str) -> AbstractContextManager[None]:
        """Trackers' run for what is made in ``out``, by one process at a time: its title says what that is, and its address."""
        told = re.sub(r"[^A-Za-z0-9.=_-]+", "-", "-".join([self.recipe.name, *words]))
        title = f"{told[:LONGEST]}-{out.name[:8]}"
        return tracking.at(tracking.Place(title, self.store.root / "tensorboard" / title, out))

    def _into(self, out: Path, seed: int) -> Run:
        shared = self.store.root / "shared"
        return dataclasses.replace(self.run, out=out, cache=shared, seed=seed, resume=True, overwrite=False, quiet=True)


def _words(cell: Cell) -> list[str]:
    """Settings that distinguish a cell's result, in words."""
    shots = [f"{cell.shots}-shots"] if cell.shots is not None else []
    each = [f"{name}={value}" for name, value in cell.each.items()]
    weights = [cell.class_weights] if cell.class_weights is not None else []
    return [cell.source, cell.task, cell.strategy, *each, *weights, *shots, f"seed-{cell.seed}"]


def method_of(spec: Pretrained) -> Pretraining:
    """Pretraining method with its settings."""
    return PRETRAINING.get(spec.method).from_settings(spec.set)


def is_checkpoint(folder: Path) -> bool:
    """True if a run folder holds a finished network."""
    return (folder / WEIGHTS).is_file() and (folder / CARD).is_file()


def is_settled(folder: Path) -> bool:
    """True if a result exists, or is known to be impossible."""
    return is_checkpoint(folder) or (folder / FAILED).is_file()


def is_evaluation(folder: Path) -> bool:
    """True if a folder holds a finished evaluation."""
    return (folder / EVALUATION).is_file() and not goes_on(folder)


def tidy(store: Store) -> None:
    """Remove what killed processes left in pieces that they had finished: these are not made, and so not tidied, again."""
    for lock in store.root.glob(f"*/*/{LOCK}"):  # a lock's file outlives only those that were killed
        folder = lock.parent
        if is_settled(folder) or is_evaluation(folder):
            with suppress(OSError, OutputError), hold(folder):  # another process may be at work on it
                state.discard(folder)
                discard_state(folder)


def _failure(folder: Path) -> str | None:
    path = folder / FAILED
    return str(read_json(path)["reason"]) if path.exists() else None


def _content(task: Task) -> list[str]:
    return [_hash(task.train), _hash(task.val)]


def _hash(split: Split) -> str:
    return split.hash if len(split) else ""
