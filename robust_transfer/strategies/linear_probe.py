"""New linear head on frozen features (Shafahi et al. 2020, section 4): features once, then a convex solve."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from robust_transfer.cache import load_or_compute
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.config import config, digest
from robust_transfer.cost import Cost
from robust_transfer.data import Split, Task
from robust_transfer.data.weights import mean
from robust_transfer.errors import ConfigError, DivergedError
from robust_transfer.monitor import Validation, validation_passes
from robust_transfer.production import Produced
from robust_transfer.run import Run
from robust_transfer.strategies import feature_shift
from robust_transfer.strategies.base import STRATEGIES, Strategy
from robust_transfer.strategies.features import features_of
from robust_transfer.strategies.metric import metric
from robust_transfer.strategies.softmax import Solution, Standardisation, solve_path
from robust_transfer.threat import Threat
from robust_transfer.training import HeadPenalty

PATH = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 1e-4, 1e-5)
Choose = Literal["log-loss", "clean", "robust"]
# Compared figure, whether more of it is better, and its display name.
CRITERIA = {
    "log-loss": ("val_loss", -1, "log-loss"),
    "clean": ("val_accuracy", 1, "clean accuracy"),
    "robust": ("val_robust_accuracy", 1, "PGD-10 accuracy"),
}


@STRATEGIES.register(
    "linear-probe",
    summary="new linear head on frozen features, solved to convergence",
    paper="Shafahi et al. 2020, section 4",
)
@config
class LinearProbe(Strategy):
    """Multinomial logistic regression on standardised, frozen features.

    ``l2`` fixes the penalty; otherwise it is chosen from ``path`` on val: least ``log-loss`` (default), best ``clean`` or
    best ``robust`` (PGD-10) accuracy; of equals, the strongest. The penalty alone moves robustness by several points,
    so the whole path is kept (``path.safetensors``: a head for every strength, on raw features). Without a val split it
    is ``without_val``.

    ``penalty=shift`` penalises ``tr(W M W^T)`` in place of ``|W|^2``: most in the directions in which an attack on images of
    ``source_data``, the source's own training data, moves the features (:mod:`.feature_shift`, with its floor
    ``shift_floor``).
    """

    weighs: ClassVar[bool] = True
    quick: ClassVar[dict[str, Any]] = {"path": (1.0, 0.1)}

    l2: float | None = None
    path: tuple[float, ...] = PATH
    choose: Choose = "log-loss"
    without_val: float = 0.01
    penalty: Literal["l2", "shift"] = "l2"
    source_data: str | None = None
    shift_floor: float = feature_shift.FLOOR

    data_settings: ClassVar[tuple[str, ...]] = ("source_data",)

    def __post_init__(self) -> None:
        if not self.path or min((*self.path, self.without_val)) <= 0 or (self.l2 is not None and self.l2 <= 0):
            raise ConfigError("L2 strengths must be positive (and path must not be empty)")
        feature_shift.refuse_settings("penalty=shift", self.penalty == "shift", self.source_data, self.shift_floor)

    def passes(self, task: Task) -> float:
        """Forecast: features of train and val, and PGD-10 on val for every point if robust accuracy chooses."""
        attacked = len(self.path) if self.l2 is None and self.choose == "robust" and len(task.val) else 0
        shifts = feature_shift.PASSES if self.penalty == "shift" else 0.0
        return len(task.train) + len(task.val) + attacked * validation_passes(task.val, robust=True) + shifts

    @override
    def check(self, source: Checkpoint, task: Task) -> None:
        if self.penalty == "shift":
            feature_shift.refuse_source("penalty=shift", source)
        if self.l2 is None and self.choose == "robust" and len(task.val) and source.card.threat is None:
            raise ConfigError("choose=robust needs a source with a threat on its card: use choose=log-loss")

    def adapt(self, source: Checkpoint, task: Task, run: Run) -> Produced:
        """Solve the probe. Raises :class:`DivergedError` where the head tells no two training images apart."""
        probe = self.solve(source, task, run)
        if len(set(probe.chosen.logits(probe.features).argmax(1).tolist())) < 2:
            raise DivergedError(
                f"the head predicts one class for every training image (l2 = {probe.chosen.l2:g}; {probe.criterion}): "
                "nothing was saved; try a smaller l2, or choose=clean"
            )
        classifier = source.classifier.with_layers(probe.chosen.head())
        classifier.freeze()
        return Produced(
            classifier=classifier,
            criterion=probe.criterion,
            metrics={"l2": probe.chosen.l2, "path": probe.records, **probe.told},
            events=probe.notes(),
            cost=probe.cost,
            path=probe.tensors(),
        )

    def solve(self, source: Checkpoint, task: Task, run: Run) -> Probe:
        """Compute features, solve the whole path, and choose a point."""
        self.check(source, task)
        train = features_of(source.classifier, task.train, run)
        val = features_of(source.classifier, task.val, run)
        path = self.path if self.l2 is None else (self.l2,)
        if self.l2 is None and not len(val):
            path = (*path, self.without_val) if self.without_val not in path else path
        standardisation, weighed, told = Standardisation.of(train, task.train.weights), None, dict[str, Any]()
        cost = Cost(passes=len(train) + len(val))
        if self.source_data is not None:
            shifts = feature_shift.source_shifts(source, self.source_data, task, run)
            weighed = _metric(shifts.moment, standardisation, self.shift_floor)
            cost += shifts.cost
            told["source_shifts"] = shifts.note
        solutions = _solved(train, task, path, run, weighed)
        records = [_record(s, (train, task.train), (val, task.val)) for s in solutions]
        probe = Probe(
            solutions,
            solutions[0],
            "",
            records,
            cost,
            train,
            val,
            standardisation,
            weighed,
            told,
        )
        return self._choose(probe, source, task, run)

    def _choose(self, probe: Probe, source: Checkpoint, task: Task, run: Run) -> Probe:
        if self.l2 is not None:
            index, criterion = 0, f"l2 given as {self.l2:g}"
        elif not len(task.val):
            index = [s.l2 for s in probe.solutions].index(self.without_val)
            criterion = f"no val split: l2 = {self.without_val:g}"
        else:
            if self.choose == "robust" and source.card.threat is not None:  # without one, check has refused
                self._attack_path(probe, source, source.card.threat, task, run)
            key, sign, words = CRITERIA[self.choose]
            index = max(range(len(probe.records)), key=lambda i: (sign * probe.records[i][key], probe.records[i]["l2"]))
            criterion = f"best {task.measure}val {words} over the L2 path"
        probe.chosen, probe.criterion = probe.solutions[index], criterion
        return probe

    def _attack_path(self, probe: Probe, source: Checkpoint, threat: Threat, task: Task, run: Run) -> None:
        """Add ``val_robust_accuracy`` to every record."""
        validation = Validation(task.val, threat, run)
        for solution, record in zip(probe.solutions, probe.records, strict=True):
            model = source.classifier.with_layers(solution.head()).to(run.torch_device())
            record["val_robust_accuracy"] = validation(model)["robust_accuracy"]
        probe.cost += validation.cost


def _metric(moment: Tensor, standardisation: Standardisation, floor: float) -> Tensor:
    """Metric of raw features' shifts on standardised features, where the penalty is."""
    return metric(moment / standardisation.std[:, None] / standardisation.std, floor)


def _solved(features: Tensor, task: Task, path: tuple[float, ...], run: Run, metric: Tensor | None) -> list[Solution]:
    """Solutions along the path; with ``run.cache`` solved once for all runs."""

    weights = task.train.weights

    def solve() -> dict[str, Tensor]:
        found = solve_path(features, task.train.labels, task.num_classes, path, weights, metric)
        tensors = {f"{i}/weight": s.weight for i, s in enumerate(found)} | {
            f"{i}/bias": s.bias for i, s in enumerate(found)
        }
        numbers = [(s.l2, s.loss, s.iterations, s.gradient) for s in found]
        return {**tensors, "numbers": torch.tensor(numbers, dtype=torch.float64)}

    key = ""
    if run.cache is not None:
        content = hashlib.sha256(features.numpy().tobytes()).hexdigest(), task.train.labels.tolist()
        more = [given.tolist() for given in (weights, metric) if given is not None]
        key = digest(*content, task.num_classes, path, *more)
    kept = load_or_compute(run.cache, "paths", key, solve)
    return [
        Solution(l2, kept[f"{i}/weight"], kept[f"{i}/bias"], loss, int(iterations), gradient)
        for i, (l2, loss, iterations, gradient) in enumerate(kept["numbers"].tolist())
    ]


@dataclass
class Probe:
    """Solved path: the solutions in order, the chosen one, records on val, and the features of both splits.

    ``metric``: of the penalty on standardised features, if it has one; ``told``: notes for the card.
    """

    solutions: list[Solution]
    chosen: Solution
    criterion: str
    records: list[dict[str, Any]]
    cost: Cost
    features: Tensor
    val_features: Tensor
    standardisation: Standardisation
    metric: Tensor | None = None
    told: dict[str, Any] = field(default_factory=dict)

    def notes(self) -> tuple[str, ...]:
        """Sentence for every point of the path that did not converge."""
        return tuple(
            f"l2 = {s.l2:g}: not converged after {s.iterations} iterations (relative gradient {s.gradient:.1e})"
            for s in self.solutions
            if not s.converged
        )

    def penalty(self, solution: Solution) -> HeadPenalty:
        """Penalty of ``solution``, converted to the head on raw features."""
        assert self.metric is None  # what trains on holds the plain penalty
        return HeadPenalty(solution.l2, self.standardisation.std.float())

    def tensors(self) -> dict[str, Tensor]:
        """``{"0.01/weight": (K, d), "0.01/bias": (K,), ...}`` on raw features."""
        pairs = {f"{s.l2:.12g}/weight": s.weight for s in self.solutions}
        return pairs | {f"{s.l2:.12g}/bias": s.bias for s in self.solutions}


def _record(solution: Solution, train: tuple[Tensor, Split], val: tuple[Tensor, Split]) -> dict[str, Any]:
    """Diagnostics of the solve, and (weighted) log loss and accuracy on train and val (if there is any)."""
    names = ("l2", "iterations", "gradient", "converged")
    record: dict[str, Any] = {**{name: getattr(solution, name) for name in names}, "objective": solution.loss}
    for name, (features, split) in (("train", train), ("val", val)):
        if len(features):
            logits, labels = solution.logits(features), split.labels
            record[f"{name}_loss"] = mean(F.cross_entropy(logits, labels, reduction="none"), split.weights)
            record[f"{name}_accuracy"] = mean(logits.argmax(1) == labels, split.weights)
    return record
