"""End-to-end fine-tuning on natural images: the control that forgets robustness (Shafahi et al. 2020, section 6)."""

from __future__ import annotations

from typing import Any, ClassVar

from typing_extensions import override

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.config import config
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.run import Run
from robust_transfer.strategies.base import STRATEGIES, HeadRule, keeps_head
from robust_transfer.strategies.kept_head import kept_head
from robust_transfer.strategies.linear_probe import Choose, LinearProbe
from robust_transfer.strategies.trained import Trained, TrainingStart


@STRATEGIES.register(
    "fine-tune",
    summary="all weights on natural images, from a warm-started head",
    paper="Shafahi et al. 2020, section 6 (control)",
)
@config
class FineTune(Trained):
    """Natural training of all weights, from the source's.

    ``warm_start`` first solves the linear probe (its penalty ``l2``, or chosen on val by ``choose``); with
    ``hold_l2`` the same penalty, in place of weight decay, stays on the head while everything trains. ``head``: see
    the head rule; a kept head is not warm-started. ``batch_norm``: in evaluation mode (``eval``, the paper's setting)
    or adapting (``train``). Validation uses no adversarial examples, unless ``select=robust`` or ``choose=robust``
    asks for them.
    """

    weighs: ClassVar[bool] = True
    quick: ClassVar[dict[str, Any]] = {"epochs": 1, "head": "new", "l2": 0.1}

    warm_start: bool = True
    l2: float | None = None
    choose: Choose = "log-loss"
    hold_l2: bool = True
    head: HeadRule = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.l2 is not None and self.l2 <= 0:
            raise ConfigError(f"l2 must be positive, not {self.l2}")

    @override
    def check(self, source: Checkpoint, task: Task) -> None:
        super().check(source, task)
        if not keeps_head(source, task, self.head) and self.warm_start:
            LinearProbe(l2=self.l2, choose=self.choose).check(source, task)

    @override
    def start(self, source: Checkpoint, task: Task, run: Run) -> TrainingStart:
        if keeps_head(source, task, self.head):
            return TrainingStart(kept_head(source, task), "the source's head is kept")
        if not self.warm_start:
            return TrainingStart(source.classifier.with_head(task.num_classes, seed=run.seed), "new random head")
        probe = LinearProbe(l2=self.l2, choose=self.choose).solve(source, task, run)
        return TrainingStart(
            source.classifier.with_layers(probe.chosen.head()),
            f"head warm-started: {probe.criterion}",
            metrics={"l2": probe.chosen.l2, "l2_path": probe.records},
            events=probe.notes(),
            cost=probe.cost,
            features=probe.features,
            head_penalty=probe.penalty(probe.chosen) if self.hold_l2 else None,
        )
