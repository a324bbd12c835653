"""TWINS (Liu et al. 2023): adversarial fine-tuning whose weights also serve a twin with the source's batch statistics."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from typing_extensions import override

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.pretraining.objective import AdversarialObjective
from robust_transfer.run import Run
from robust_transfer.strategies.attacked import ByPGD
from robust_transfer.strategies.base import STRATEGIES
from robust_transfer.strategies.trained import TrainingStart
from robust_transfer.threat import Threat
from robust_transfer.training import Batch, Objective


@STRATEGIES.register(
    "twins",
    summary="adversarial training on the target, half of each batch by the source's batch statistics",
    paper="Liu et al. 2023 (TWINS-AT)",
)
@config
class Twins(ByPGD):
    """Minimises ``CE(adaptive(x'_2), y_2) + frozen_weight * CE(frozen(x'_1), y_1)``, each batch cut into halves 1 and 2.

    Both twins have the same weights. The adaptive one's batch norm adapts, and it is what is attacked and kept; the frozen
    one's has the source's means and variances throughout. Halves and ``frozen_weight`` are those of the released code,
    so a step costs what plain adversarial training's does. There each twin has scales and shifts of its own in batch
    norm; here they are shared. The paper's other form, with TRADES, is not here.
    """

    weighs: ClassVar[bool] = True

    frozen_weight: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frozen_weight < 0:
            raise ConfigError(f"frozen_weight must not be negative, not {self.frozen_weight}")
        if self.batch_norm == "eval":
            raise ConfigError("twins differ in nothing if batch norm does not adapt: leave out batch_norm=eval")

    @property
    @override
    def passes_per_image(self) -> float:
        return 3.0 + 2.0 * self.steps

    @override
    def check(self, source: Checkpoint, task: Task) -> None:
        super().check(source, task)
        if not batch_norms(source.classifier):
            raise ConfigError("twins differ in batch norm's statistics, and the source has none: use adversarial")

    @override
    def start(self, source: Checkpoint, task: Task, run: Run) -> TrainingStart:
        classifier = source.classifier.with_head(task.num_classes, seed=run.seed)
        return TrainingStart(classifier, "from the source, with a new random head")

    @override
    def crafting(self, source: Checkpoint, start: TrainingStart, task: Task, threat: Threat, run: Run) -> Objective:
        return TwinsObjective(
            start.classifier, threat, run, steps=self.steps, step=self.step, frozen_weight=self.frozen_weight
        )


class TwinsObjective(AdversarialObjective):
    """Loss of :class:`Twins`; the frozen statistics are the classifier's as they are when it is made.

    A batch of one image is the adaptive twin's.
    """

    def __init__(
        self, classifier: Classifier, threat: Threat, run: Run, *, steps: int, step: float, frozen_weight: float
    ) -> None:
        super().__init__(classifier, threat, run, steps=steps, step=step)
        self.frozen_weight = frozen_weight
        # no buffers of the objective: processes would send them to each other at every step
        self._frozen = {
            f"{path}.{name}": values.clone()
            for path, norm in batch_norms(classifier).items()
            for name, values in norm.named_buffers()
            if name in ("running_mean", "running_var")
        }

    @override
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        crafted = self.craft(batch)
        half = len(crafted) // 2
        adaptive = self.classifier(crafted[half:])
        loss = _rows(batch, slice(half, None)).cross_entropy(adaptive)
        if not half:
            return {"loss": loss, "logits": adaptive}
        frozen = self.by_the_frozen_twin(crafted[:half])
        frozen_loss = _rows(batch, slice(half)).cross_entropy(frozen)
        return {
            "loss": loss + self.frozen_weight * frozen_loss,
            "adaptive_loss": loss,
            "frozen_loss": frozen_loss,
            "logits": torch.cat([frozen, adaptive]),
        }

    def by_the_frozen_twin(self, x: Tensor) -> Tensor:
        """Logits ``(B, K)`` by the current weights and the source's batch statistics."""
        self._frozen = {name: values.to(x.device) for name, values in self._frozen.items()}
        with _holding(batch_norms(self.classifier).values()):
            logits: Tensor = functional_call(self.classifier, self._frozen, (x,))
        return logits


def batch_norms(module: nn.Module) -> dict[str, nn.Module]:
    """Batch norms with statistics, by path."""
    return {
        path: part
        for path, part in module.named_modules()
        if isinstance(part, _BatchNorm) and part.running_mean is not None
    }


@contextmanager
def _holding(modules: Any) -> Iterator[None]:
    """Evaluation mode for ``modules`` inside the block."""
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _rows(batch: Batch, rows: slice) -> Batch:
    """Batch whose means are over these rows alone."""
    weights = batch.weights[rows] if batch.weights is not None else None
    return dataclasses.replace(batch, labels=batch.labels[rows], weights=weights)
