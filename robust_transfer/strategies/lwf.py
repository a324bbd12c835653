"""Learning without forgetting: natural fine-tuning that stays near the source's features (Shafahi et al. 2020, section 6).

Minimises ``mean CE(head(z(x)), y) + weight * mean d(z(x), z0(x))`` with ``z0`` the frozen source's penultimate features.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from typing_extensions import override

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.cost import Cost
from robust_transfer.data import Task
from robust_transfer.data.weights import mean
from robust_transfer.errors import ConfigError
from robust_transfer.run import Run
from robust_transfer.strategies.base import STRATEGIES
from robust_transfer.strategies.features import features_of
from robust_transfer.strategies.fine_tune import FineTune
from robust_transfer.strategies.trained import Minimised, TrainingStart
from robust_transfer.training import Batch, CachedRows, Objective

Distance = Literal["l1", "l2", "squared-l2"]
ROUNDING = 1e-6  # how far, relative to the features, two computations of them in float32 may lie apart


def feature_distance(z: Tensor, z0: Tensor, distance: Distance) -> Tensor:
    """``d(z, z0)`` per example, ``(B,)``, of features ``(B, d)``: raw sums over features, as in the paper's code.

    Training starts at ``z = z0``, where the norms have no gradient (l2: 0/0): there it is 0, the subgradient of least
    norm. It is also 0 where the two differ by no more than float32 rounding, which depends on the batch: its
    direction is arbitrary, but would have full weight.
    """
    z, z0 = z.float(), z0.float()
    difference = z - z0
    if distance == "squared-l2":
        return difference.square().sum(1)
    rounding = ROUNDING * z0.norm(dim=1)
    if distance == "l1":
        size = difference.abs()
        return torch.where(size > rounding[:, None] * z0.shape[1] ** -0.5, size, torch.zeros_like(size)).sum(1)
    squared = difference.square().sum(1)
    away = squared > rounding.square()
    return torch.where(away, torch.where(away, squared, torch.ones_like(squared)).sqrt(), torch.zeros_like(squared))


@STRATEGIES.register(
    "lwf",
    summary="fine-tuning held near the source's features (learning without forgetting)",
    paper="Shafahi et al. 2020, section 6",
)
@config
class LwF(FineTune):
    """Fine-tuning with a penalty on the distance to the source's features; no adversarial examples.

    ``feature_weight`` is the raw factor of ``d`` (the paper: 0.005 on the l1 sum over 640 features). ``auto`` sets it to
    ``strength / mean d(z0, 0)``, so that one ``strength`` means the same on every network: the penalty of moving every
    feature vector by its own length. ``teacher``: source features ``cached`` once (needs augment=false) or ``live``.
    ``preset=paper``: the released code's settings.
    """

    weighs: ClassVar[bool] = True
    quick: ClassVar[dict[str, Any]] = {"epochs": 1, "head": "new", "l2": 0.1}

    feature_weight: float | Literal["auto"] = "auto"
    strength: float = 1.0
    distance: Distance = "l2"
    teacher: Literal["cached", "live"] = "cached"

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {
            "feature_weight": 0.005,
            "distance": "l1",
            "epochs": 25.6,  # 10,000 steps of 128 on 50,000 images, after the head's warm start
            "learning_rate": 1e-3,
            "schedule": "constant",
            "momentum": 0.9,
            "weight_decay": 2e-4,
            "batch_size": 128,
            "batch_norm": "eval",
            "augment": False,
            "teacher": "cached",
            "hold_l2": False,
        }
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        self._refuse_stale_teacher(None)
        if self.feature_weight != "auto" and self.feature_weight < 0:
            raise ConfigError(f"feature_weight must not be negative, not {self.feature_weight}")
        if self.feature_weight != "auto" and self.strength != 1.0:
            raise ConfigError("strength has no effect where feature_weight is a number: give one of them")
        if self.strength < 0:
            raise ConfigError(f"strength must not be negative, not {self.strength}")

    @override
    def check(self, source: Checkpoint, task: Task) -> None:
        super().check(source, task)
        self._refuse_stale_teacher(source.input_size)

    def _refuse_stale_teacher(self, size: int | None) -> None:
        if self.teacher == "cached" and self.augmentation(size).active:
            raise ConfigError("a cached teacher has seen the plain images only: use teacher=live with augment=true")

    @override
    def objective(self, source: Checkpoint, start: TrainingStart, task: Task, run: Run) -> Minimised:
        features, weight, notes, cost = start.features, self.strength, dict[str, Any](), Cost()
        if features is None and (self.teacher == "cached" or self.feature_weight == "auto"):
            features, cost = features_of(source.classifier, task.train, run), Cost(passes=len(task.train))
        if features is not None:
            size = mean(feature_distance(features, torch.zeros_like(features), self.distance), task.train.weights)
            if self.feature_weight == "auto" and not size:
                raise ConfigError("the source's features are all 0 on these images: there is nothing to hold on to")
            notes["source_feature_size"] = size
            weight = self.strength / size if size else 0.0
        if self.feature_weight != "auto":
            weight = self.feature_weight
        live = self.teacher == "live"
        objective = LwFObjective(
            start.classifier,
            weight=weight,
            distance=self.distance,
            features=None if live else features,
            teacher=source.classifier.copy() if live else None,
            patience=self.patience(task),
        )
        return Minimised(objective, cost, {"feature_weight": weight, **notes})


class LwFObjective(Objective):
    """``CE + weight * mean d(z, z0)`` with ``z0`` looked up in ``features`` ``(n, d)`` or computed by ``teacher``.

    ``passes_per_image`` is 3 with features and 4 with a teacher, which sees every image once more.
    """

    def __init__(
        self,
        classifier: Classifier,
        *,
        weight: float,
        distance: Distance,
        features: Tensor | None = None,
        teacher: Classifier | None = None,
        patience: int = 1,
    ) -> None:
        super().__init__(classifier)
        self.weight, self.distance, self.collapse_patience = weight, distance, patience
        self.known = CachedRows(features) if features is not None else None
        self.teacher = teacher.requires_grad_(False) if teacher is not None else None
        self.passes_per_image = 3.0 if teacher is None else 4.0

    @override
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        z = self.classifier.features(batch.images)
        logits = self.classifier.classify(z)
        cross_entropy = batch.cross_entropy(logits)
        drift = batch.mean(feature_distance(z, self._source_features(batch), self.distance))
        return {
            "loss": cross_entropy + self.weight * drift,
            "cross_entropy": cross_entropy,
            "drift": drift,
            "logits": logits,
        }

    def _source_features(self, batch: Batch) -> Tensor:
        if self.teacher is None:
            assert self.known is not None
            return self.known(batch)
        with self.teacher.eval_mode(), torch.no_grad():
            return self.teacher.features(batch.images)
