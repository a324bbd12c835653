"""Adversarial training on the target itself, from the source or from scratch: the baselines of the low-data experiments.

Shafahi et al. 2020, section 4: with few images both lose to a new head on frozen robust features, and cost many times
more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any, ClassVar, Literal, Self

import torch
from typing_extensions import override

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.config import build, config
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.monitor import validation_passes
from robust_transfer.pretraining import PRETRAINING, Pretraining
from robust_transfer.production import refuse_weights
from robust_transfer.run import Run
from robust_transfer.strategies.attacked import Attacked
from robust_transfer.strategies.base import STRATEGIES
from robust_transfer.strategies.trained import TrainingStart
from robust_transfer.threat import Threat
from robust_transfer.training import Objective

NOT_THE_METHODS = {"method", "init", "own"}  # fields of this strategy that are not handed on


@STRATEGIES.register(
    "adversarial",
    summary="adversarial training on the target, from the source or from scratch",
    paper="Shafahi et al. 2020, section 4 (baselines); Madry et al. 2018",
)
@config
class Adversarial(Attacked):
    """Adversarial training by ``method``, a registered pretraining method that crafts examples.

    ``steps``, ``step``, ``beta`` and ``replays`` are settings of such methods; further ones of a method go to ``own``
    (the command line sorts them: ``--set method=mine --set radius=3``). ``init``: from the ``source``, with a new head,
    or from ``scratch``, with the source's architecture only.
    """

    weighs: ClassVar[bool] = True
    quick: ClassVar[dict[str, Any]] = {"epochs": 1, "augment": False, "threat": "linf:8/255", "steps": 1}

    method: str = "pgd-at"
    init: Literal["source", "scratch"] = "source"
    steps: int | None = None
    step: float | None = None
    beta: float | None = None
    replays: int | None = None
    own: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.made()

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Build from loose settings; those of the method alone go to ``own``."""
        mine, method = {f.name for f in fields(cls)}, PRETRAINING.get(str(settings.get("method", cls.method)))
        own = {f.name for f in fields(method)} - mine
        given = {key: value for key, value in settings.items() if key in own}
        rest = {key: value for key, value in settings.items() if key not in given}
        return super().from_settings({**rest, "own": {**rest.get("own", {}), **given}} if given else rest)

    def made(self) -> Pretraining:
        """Method, with this strategy's training settings."""
        method, training = PRETRAINING.get(self.method), self.training()
        if not method.adversarial or method.starts:
            known = ", ".join(entry.name for entry in PRETRAINING if entry.cls.adversarial and not entry.cls.starts)
            what = "learns no classes" if method.starts else "crafts no adversarial examples"
            raise ConfigError(f"method {self.method!r} {what}: use one of {known}")
        named = {f.name for f in fields(self)} - {f.name for f in fields(Attacked)} - NOT_THE_METHODS
        given = {name: value for name in named if (value := getattr(self, name)) is not None}
        return build(method, {**training, **given, **self.own}, f"method {self.method!r}")

    @property
    @override
    def passes_per_image(self) -> float:
        return self.made().passes_per_image

    @override
    def passes(self, task: Task) -> float:
        """Passes of the method, which may see the images less often (``replays``), and of validation."""
        looks = self.epochs / int(getattr(self.made(), "replays", 1))
        watching = looks * validation_passes(task.val, robust=self.select == "robust")
        return self.images_seen(len(task.train)) * self.passes_per_image + watching

    @override
    def check(self, source: Checkpoint, task: Task) -> None:
        super().check(source, task)
        refuse_weights(type(self.made()), task)

    @override
    def start(self, source: Checkpoint, task: Task, run: Run) -> TrainingStart:
        classifier = source.classifier.with_head(task.num_classes, seed=run.seed)
        if self.init == "source":
            return TrainingStart(classifier, "from the source, with a new random head")
        torch.manual_seed(run.seed)
        return TrainingStart(Classifier.build(classifier.spec), "from scratch")

    @override
    def crafting(self, source: Checkpoint, start: TrainingStart, task: Task, threat: Threat, run: Run) -> Objective:
        return self.made().objective(start.classifier, task, threat, run)
