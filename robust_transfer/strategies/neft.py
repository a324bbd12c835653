"""Non-expansive fine-tuning of the last blocks (Chen et al. 2021, CARTL): bounded spectral norms, frozen batch norm."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.production import Produced
from robust_transfer.run import Run
from robust_transfer.strategies.base import STRATEGIES
from robust_transfer.strategies.fine_tune import FineTune
from robust_transfer.strategies.trained import Minimised, TrainingStart
from robust_transfer.training import Batch, NaturalObjective


@STRATEGIES.register(
    "neft",
    summary="the last blocks fine-tuned with bounded spectral norms and frozen batch norm",
    paper="Chen et al. 2021 (CARTL), section 4.3",
)
@config
class NEFT(FineTune):
    """Natural fine-tuning of the head and of the convolutions and linear layers in the ``blocks`` before it.

    After every step a weight ``W`` becomes ``W * min(1, bound / sigma)``, ``sigma`` its largest singular value as a matrix of
    ``(outputs, inputs)`` (of a convolution ``(outputs, inputs * height * width)``), so that no such layer amplifies a shift
    of its inputs more than that. ``bound``: ``beta``, or the sigma of the source's layer where that is None. The paper sets
    ``W`` to ``beta * W / sigma``, up or down. Norms keep the source's statistics, scales and shifts.
    """

    weighs: ClassVar[bool] = True
    quick: ClassVar[dict[str, Any]] = {**FineTune.quick, "blocks": 1}

    blocks: int = 2
    beta: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.blocks < 1:
            raise ConfigError(f"blocks must be at least 1, not {self.blocks}: with none it is linear-probe")
        if self.beta is not None and self.beta <= 0:
            raise ConfigError(f"beta must be positive, not {self.beta}")

    def check(self, source: Checkpoint, task: Task) -> None:
        """Refuse more blocks than the network has, and blocks without a layer to bound."""
        super().check(source, task)
        if self.blocks > (most := len(source.classifier.blocks()) - 1):
            raise ConfigError(f"the network has {most} blocks below the head: blocks={self.blocks} is too many")
        if not self.layers(source.classifier):
            raise ConfigError(f"neft finds no layer to bound in the last {self.blocks} blocks: give more blocks")

    def layers(self, classifier: Classifier) -> list[str]:
        """Names of the weights that are trained and bounded."""
        inside = {name for block in classifier.blocks()[-1 - self.blocks : -1] for name in block}
        return [n for n, p in classifier.named_parameters() if n in inside and n.endswith("weight") and p.dim() > 1]

    @override
    def start(self, source: Checkpoint, task: Task, run: Run) -> TrainingStart:
        start = super().start(source, task, run)
        trained = {*self.layers(start.classifier)}
        start.classifier.freeze(
            n for n in start.classifier.state_dict() if not n.startswith("head.") and n not in trained
        )
        return start

    @override
    def objective(self, source: Checkpoint, start: TrainingStart, task: Task, run: Run) -> Minimised:
        objective = NEFTObjective(start.classifier, self.layers(start.classifier), self.beta, self.patience(task))
        return Minimised(objective, metrics={"bounds": dict(objective.bounds)})

    @override
    def train_from(self, start: TrainingStart, source: Checkpoint, task: Task, run: Run) -> Produced:
        """Train within the bounds; after the last step they hold exactly."""
        made = super().train_from(start, source, task, run)
        bounds: dict[str, float] = made.metrics["bounds"]
        with torch.no_grad():
            for name, bound in bounds.items():
                weight = made.classifier.get_parameter(name)
                weight.mul_(min(1.0, bound / spectral_norm(weight)))
        return made


class NEFTObjective(NaturalObjective):
    """Cross-entropy; before every pass the named weights are brought back to their bounds.

    A step's ``sigma`` is that of one more power iteration from the step before, which weights that move slowly need no more of.
    """

    def __init__(self, classifier: Classifier, names: list[str], beta: float | None, patience: int = 1) -> None:
        super().__init__(classifier, patience)
        self.bounds = {name: beta or spectral_norm(classifier.get_parameter(name)) for name in names}
        self.vectors = nn.ParameterList()  # they are part of the resume state
        for name in names:
            left = torch.linalg.svd(matrix(classifier.get_parameter(name).detach()), full_matrices=False).U[:, 0]
            self.vectors.append(nn.Parameter(left.clone(), requires_grad=False))

    @override
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        if self.training:
            with torch.no_grad():
                for vector, (name, bound) in zip(self.vectors, self.bounds.items(), strict=True):
                    weight = self.classifier.get_parameter(name)
                    weight.mul_(min(1.0, bound / _iterated(matrix(weight), vector)))
        return super().forward(batch)


def matrix(weight: Tensor) -> Tensor:
    """Weight as a matrix of ``(outputs, everything else)``."""
    return weight.reshape(len(weight), -1)


def spectral_norm(weight: Tensor) -> float:
    """Largest singular value of a weight as a matrix."""
    return float(torch.linalg.matrix_norm(matrix(weight.detach()).double(), ord=2))


def _iterated(weight: Tensor, vector: Tensor) -> float:
    """Estimate of the largest singular value; ``vector`` is brought nearer to the left singular vector."""
    right = weight.T @ vector
    right /= right.norm().clamp_min(1e-30)
    left = weight @ right
    sigma = left.norm()
    vector.copy_(left / sigma.clamp_min(1e-30))
    return float(sigma.clamp_min(1e-30))
