"""Learning without forgetting: natural fine-tuning that stays near the source's features (Shafahi et al. 2020, section 6).

Minimises ``mean CE(head(z(x)), y) + weight * mean d(z(x), z0(x))`` with ``z0`` the frozen source's penultimate features.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.run import Run
from robust_transfer.strategies.base import STRATEGIES
from robust_transfer.strategies.features import features_of
from robust_transfer.strategies.fine_tune import FineTune
from robust_transfer.training import Batch, Objective

Distance = Literal["l1", "l2", "squared-l2"]


def feature_distance(z: Tensor, z0: Tensor, distance: Distance) -> Tensor:
    """``d(z, z0)`` per example, ``(B,)``: raw sums over features, as in the paper's code.

    Training starts at ``z = z0``, where the l2 norm's gradient is 0/0: there it is defined as 0, its subgradient of least norm.
    """
    difference = z.float() - z0.float()
    if distance == "l1":
        return difference.abs().sum(1)
    squared = difference.square().sum(1)
    if distance == "squared-l2":
        return squared
    at_source = squared == 0
    return torch.where(
        at_source, torch.zeros_like(squared), torch.where(at_source, torch.ones_like(squared), squared).sqrt()
    )


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
        if self.teacher == "cached" and self.augment and (self.pad or self.flip):
            raise ConfigError("a cached teacher has seen the plain images only: use teacher=live with augment=true")
        if self.feature_weight != "auto" and self.feature_weight < 0:
            raise ConfigError(f"feature_weight must not be negative, not {self.feature_weight}")
        if self.strength < 0:
            raise ConfigError(f"strength must not be negative, not {self.strength}")

    def objective(
        self, source: Checkpoint, classifier: Classifier, task: Task, run: Run
    ) -> tuple[Objective, float, dict[str, Any]]:
        """See :class:`FineTune`."""
        cached, cost = None, 0.0
        if self.teacher == "cached" or self.feature_weight == "auto":
            cached = features_of(source.classifier, task.train, run)
            cost = float(len(cached))
        size = (
            float(feature_distance(cached, torch.zeros_like(cached), self.distance).mean())
            if cached is not None
            else 0.0
        )
        weight = self.strength / max(size, 1e-12) if self.feature_weight == "auto" else self.feature_weight
        teacher = source.classifier.copy() if self.teacher == "live" else None
        objective = LwFObjective(
            classifier,
            weight=weight,
            distance=self.distance,
            features=cached if teacher is None else None,
            teacher=teacher,
            patience=self._patience(),
        )
        return objective, cost, {"feature_weight": weight, "source_feature_size": size}


class LwFObjective(Objective):
    """``CE + weight * mean d(z, z0)`` with ``z0`` looked up in ``features`` ``(n, d)`` or computed by ``teacher``."""

    features: Tensor | None

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
        self.register_buffer("features", features, persistent=False)
        self.teacher = teacher.requires_grad_(False) if teacher is not None else None
        self.passes_per_image = 3.0 if teacher is None else 4.0

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See :class:`Objective`."""
        z = self.classifier.features(batch.images)
        logits = self.classifier.classify(z)
        cross_entropy = F.cross_entropy(logits, batch.labels)
        drift = feature_distance(z, self._source_features(batch), self.distance).mean()
        return {
            "loss": cross_entropy + self.weight * drift,
            "cross_entropy": cross_entropy,
            "drift": drift,
            "logits": logits,
        }

    def _source_features(self, batch: Batch) -> Tensor:
        if self.teacher is None:
            assert self.features is not None
            return self.features[batch.indices]
        with self.teacher.eval_mode(), torch.no_grad():
            return self.teacher.features(batch.images)
