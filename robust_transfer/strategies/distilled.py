"""Base of robust distillation: the teacher is the source with a probe, which knows the target's classes."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

import torch
from typing_extensions import override

from robust_transfer import networks
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier, NetworkSpec
from robust_transfer.config import config
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.run import Run
from robust_transfer.strategies.attacked import ByPGD
from robust_transfer.strategies.linear_probe import Choose, LinearProbe
from robust_transfer.strategies.trained import TrainingStart


@config
class Distilled(ByPGD):
    """Base of the strategies that a robust teacher teaches: the source with the probe of ``l2`` or ``choose``.

    ``init``: the student begins as the ``source`` with a new head, or as a new network (``scratch``): of the source's
    architecture, or another ``network``. A probe's head, made for frozen features, would be too steep to begin with.
    """

    quick: ClassVar[dict[str, Any]] = {**ByPGD.quick, "l2": 0.1}

    init: Literal["source", "scratch"] = "source"
    network: str | None = None
    l2: float | None = None
    choose: Choose = "log-loss"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.probe()
        if self.network is not None and self.init == "source":
            raise ConfigError(f"network={self.network} cannot begin as the source: set init=scratch, too")

    def probe(self) -> LinearProbe:
        """Probe that makes the source a teacher."""
        return LinearProbe(l2=self.l2, choose=self.choose)

    @override
    def preparation(self, task: Task) -> float:
        return self.probe().passes(task)

    @override
    def check(self, source: Checkpoint, task: Task) -> None:
        super().check(source, task)
        self.probe().check(source, task)
        self.spec(source.classifier.spec)

    def spec(self, teacher: NetworkSpec) -> NetworkSpec:
        """Network of a student from scratch."""
        if self.network is None:
            return teacher
        name = networks.canonical(self.network)
        preprocessing = dataclasses.replace(teacher.preprocessing, normalisation=networks.normalisation(name))
        return NetworkSpec(name=name, num_classes=teacher.num_classes, preprocessing=preprocessing)

    @override
    def start(self, source: Checkpoint, task: Task, run: Run) -> TrainingStart:
        probe = self.probe().solve(source, task, run)
        teacher, student = source.classifier.with_layers(probe.chosen.head()), "as the source with a new random head"
        if self.init == "source":
            classifier = source.classifier.with_head(task.num_classes, seed=run.seed)
        else:
            torch.manual_seed(run.seed)
            classifier = Classifier.build(self.spec(teacher.spec))
            student = f"as a new {classifier.spec.name}"
        return TrainingStart(
            classifier,
            f"taught by the source with a probe ({probe.criterion}), begun {student}",
            metrics={"l2": probe.chosen.l2, "l2_path": probe.records},
            events=probe.notes(),
            cost=probe.cost,
            teacher=teacher,
        )
