"""Learning without forgetting: natural fine-tuning that stays near the source's features (Shafahi et al. 2020, section 6).

Minimises ``mean CE(head(z(x)), y) + weight * mean d(z(x), z0(x))`` with ``z0`` the frozen source's penultimate features;
further blocks, directions that attacks move, and a strength that changes in training are settings.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from typing_extensions import override

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.config import config
from robust_transfer.cost import Cost
from robust_transfer.data import Task
from robust_transfer.data.weights import mean
from robust_transfer.errors import ConfigError
from robust_transfer.run import Run
from robust_transfer.strategies import feature_shift
from robust_transfer.strategies.base import STRATEGIES
from robust_transfer.strategies.feature_distance import Distance, feature_distance
from robust_transfer.strategies.features import features_of
from robust_transfer.strategies.fine_tune import FineTune
from robust_transfer.strategies.lwf_objective import LwFObjective
from robust_transfer.strategies.metric import metric, power
from robust_transfer.strategies.pooled import inner_blocks, pooled_of
from robust_transfer.strategies.strength_schedule import StrengthSchedule, strength_share
from robust_transfer.strategies.trained import Minimised, TrainingStart


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

    ``depths``: 1 holds the features alone; k also the channels' means of the k - 1 blocks before the last one (0: of all).
    The penalty is then the mean over depths, each relative to the source's own size there. ``directions=shift`` weighs
    the features' drift by the directions in which an attack on images of ``source_data``, the source's own training
    data, moves the source's features (:mod:`.feature_shift`, with its floor ``shift_floor``); for the l2 distances.
    ``strength_schedule``: between the whole strength and a share ``strength_least`` of it, by the step.
    """

    weighs: ClassVar[bool] = True
    quick: ClassVar[dict[str, Any]] = {"epochs": 1, "head": "new", "l2": 0.1}

    feature_weight: float | Literal["auto"] = "auto"
    strength: float = 1.0
    distance: Distance = "l2"
    teacher: Literal["cached", "live"] = "cached"
    depths: int = 1
    directions: Literal["equal", "shift"] = "equal"
    source_data: str | None = None
    shift_floor: float = feature_shift.FLOOR
    strength_schedule: StrengthSchedule = "constant"
    strength_least: float = 0.0

    data_settings: ClassVar[tuple[str, ...]] = ("source_data",)
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
        if self.depths < 0:
            raise ConfigError(f"depths must not be negative, not {self.depths}")
        if self.depths != 1 and self.feature_weight != "auto":
            raise ConfigError(
                "a numeric feature_weight is that of the features alone: give strength with several depths"
            )
        feature_shift.refuse_settings(
            "directions=shift", self.directions == "shift", self.source_data, self.shift_floor
        )
        if self.directions == "shift" and self.distance == "l1":
            raise ConfigError("l1 is a sum over features and knows no other directions: use distance=l2 or squared-l2")
        if not 0 <= self.strength_least <= 1:
            raise ConfigError(f"strength_least is a share between 0 and 1, not {self.strength_least}")
        if self.strength_least and self.strength_schedule == "constant":
            raise ConfigError("strength_least has no effect with a constant strength: give a strength_schedule")

    @override
    def passes(self, task: Task) -> float:
        """Forecast: fine-tuning; a live teacher, the inner blocks of a cached one, and the attack on the source."""
        live = self.images_seen(len(task.train)) if self.teacher == "live" else 0.0
        inner = float(len(task.train)) if self.depths != 1 else 0.0
        return super().passes(task) + live + inner + (feature_shift.PASSES if self.directions == "shift" else 0.0)

    @override
    def check(self, source: Checkpoint, task: Task) -> None:
        super().check(source, task)
        self._refuse_stale_teacher(source.input_size)
        inner_blocks(source.classifier, self.depths)
        if self.directions == "shift":
            feature_shift.refuse_source("directions=shift", source)

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
        inner, pooled = dict[str, float](), dict[str, Tensor]()
        if names := inner_blocks(source.classifier, self.depths):
            pooled = pooled_of(source.classifier, task.train, run, names)
            cost += Cost(passes=len(task.train))
            sizes = {name: self._size(rows, task) for name, rows in pooled.items()}
            weight /= len(names) + 1
            inner = {name: self.strength / size / (len(names) + 1) for name, size in sizes.items()}
            notes["source_block_sizes"] = sizes
        root: Tensor | None = None
        if self.source_data is not None:
            shifts = feature_shift.source_shifts(source, self.source_data, task, run)
            root = power(metric(shifts.moment, self.shift_floor), 0.5).float()
            cost += shifts.cost
            notes["source_shifts"] = shifts.note
        objective = LwFObjective(
            start.classifier,
            weight=weight,
            distance=self.distance,
            features=None if live else features,
            teacher=source.classifier.copy() if live else None,
            patience=self.patience(task),
            inner=inner,
            pooled={} if live else pooled,
            root=root,
            share=partial(strength_share, self.strength_schedule, self.strength_least)
            if self.strength_schedule != "constant"
            else None,
        )
        return Minimised(objective, cost, {"feature_weight": weight, **notes})

    def _size(self, rows: Tensor, task: Task) -> float:
        """Mean distance of the source's rows ``(n, d)`` from 0: what a strength is relative to."""
        size = mean(feature_distance(rows, torch.zeros_like(rows), self.distance), task.train.weights)
        if not size:
            raise ConfigError("the source's features are all 0 on these images: there is nothing to hold on to")
        return size
