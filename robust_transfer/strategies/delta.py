"""Fine-tuning held near the source's feature maps at several depths, channel by channel (Li et al. 2019, DELTA)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from robust_transfer.activations import block_modules, by_channel, captured
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.cost import Cost
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.run import Run
from robust_transfer.strategies.base import STRATEGIES
from robust_transfer.strategies.fine_tune import FineTune
from robust_transfer.strategies.trained import Minimised, TrainingStart
from robust_transfer.training import Batch, Objective

IMPORTANCE_IMAGES = 1000  # training images that channels are weighed on


@STRATEGIES.register(
    "delta",
    summary="fine-tuning held near the source's feature maps at several depths, channels weighed",
    paper="Li et al. 2019, section 3",
)
@config
class Delta(FineTune):
    """Minimises ``mean CE + strength * mean over depths of D``, the source's network running beside.

    ``D = mean_x sum_c w_c |h_c(x) - h0_c(x)|^2 / mean_x sum_c w_c |h0_c(x)|^2`` with ``h_c`` the channels of a block's output
    (of a transformer, its last dimension). ``depths``: of how many blocks, the last ones before the head (0: all).
    ``w_c`` is how much the starting network's loss changes without the channel, to the first order, as a share of
    the mean over channels (``weighted=false``: 1). The paper switches off each channel instead, a pass of its own.
    """

    weighs: ClassVar[bool] = True
    quick: ClassVar[dict[str, Any]] = FineTune.quick

    strength: float = 1.0
    depths: int = 4
    weighted: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.strength < 0 or self.depths < 0:
            raise ConfigError("strength and depths must not be negative")

    @override
    def passes(self, task: Task) -> float:
        """Forecast: fine-tuning, the source on every image once more, and the channels' weights."""
        weighing = 3.0 * min(IMPORTANCE_IMAGES, len(task.train)) if self.weighted else 0.0
        return super().passes(task) + self.images_seen(len(task.train)) + weighing

    @override
    def objective(self, source: Checkpoint, start: TrainingStart, task: Task, run: Run) -> Minimised:
        names = list(block_modules(start.classifier))[-self.depths :]
        weights, sizes, cost = weigh(start.classifier, names, task, run, weighted=self.weighted)
        objective = DeltaObjective(
            start.classifier, source.classifier.copy(), weights, sizes, self.strength, self.patience(task)
        )
        return Minimised(objective, cost, {"depths": names, "map_sizes": sizes})


class DeltaObjective(Objective):
    """``CE + strength * mean over blocks of sum_c w_c |h_c - h0_c|^2 / size``; ``passes_per_image`` is 4: a teacher's, too.

    ``weights``: by a block's name, one a channel ``(C,)``; ``sizes``: what a distance of that block is relative to.
    """

    passes_per_image = 4.0

    def __init__(
        self,
        classifier: Classifier,
        teacher: Classifier,
        weights: Mapping[str, Tensor],
        sizes: Mapping[str, float],
        strength: float,
        patience: int = 1,
    ) -> None:
        super().__init__(classifier)
        self.teacher = teacher.requires_grad_(False)
        self.weights, self.sizes = dict(weights), dict(sizes)
        self.strength, self.collapse_patience = strength, patience

    @override
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        with captured(self._blocks(self.classifier)) as maps:
            logits = self.classifier(batch.images)
        with self.teacher.eval_mode(), torch.no_grad(), captured(self._blocks(self.teacher)) as wanted:
            self.teacher.features(batch.images)
        cross_entropy = batch.cross_entropy(logits)
        each = [
            batch.mean(weighted_square(maps[name].float() - wanted[name].float(), weights)) / self.sizes[name]
            for name, weights in self.weights.items()
        ]
        drift = torch.stack(each).mean()
        return {
            "loss": cross_entropy + self.strength * drift,
            "cross_entropy": cross_entropy,
            "drift": drift,
            "logits": logits,
        }

    def _blocks(self, classifier: Classifier) -> dict[str, torch.nn.Module]:
        return {name: classifier.body.get_submodule(name) for name in self.weights}


def weighted_square(maps: Tensor, weights: Tensor) -> Tensor:
    """``sum_c w_c |h_c|^2`` of maps ``(B, C, H, W)``, or of tokens ``(B, N, C)`` or features ``(B, C)``: ``(B,)``."""
    return (by_channel(maps).square().sum(2) * weights.to(maps.device)).sum(1)


def weigh(
    classifier: Classifier, names: list[str], task: Task, run: Run, *, weighted: bool
) -> tuple[dict[str, Tensor], dict[str, float], Cost]:
    """Channels' weights and the size of each block's maps, on a sample of the training images; what that has cost.

    A channel's weight is ``|sum over positions of h * d loss / d h|``, mean over images (by their weights): how much the loss
    changes without it, to the first order (Molchanov et al. 2017, section 2.2), relative to the mean over channels.
    """
    device = run.torch_device()
    classifier.to(device)
    sample = task.train.sample(IMPORTANCE_IMAGES, seed=run.seed, purpose="delta")
    effects, squares = dict[str, Tensor](), dict[str, Tensor]()
    modules = {name: classifier.body.get_submodule(name) for name in names}
    counts = sample.weights if sample.weights is not None else torch.ones(len(sample), dtype=torch.float64)
    for rows in torch.split(torch.arange(len(sample)), 100):
        x, labels, _ = sample.subset(rows).on(device)
        x.requires_grad_(True)  # so that every map has a gradient, whatever is frozen
        with classifier.eval_mode(), captured(modules) as maps:
            loss = F.cross_entropy(classifier(x), labels, reduction="sum")
        found = [maps[name] for name in names]
        for name, values, slope in zip(names, found, torch.autograd.grad(loss, found), strict=True):
            effect = counts[rows] @ by_channel(values.detach() * slope).sum(2).abs().double().cpu()
            square = counts[rows] @ by_channel(values.detach()).square().sum(2).double().cpu()
            effects[name] = effects.get(name, torch.zeros_like(effect)) + effect
            squares[name] = squares.get(name, torch.zeros_like(square)) + square
    weights = {
        name: (effect / effect.mean() if weighted and effect.any() else torch.ones_like(effect)).float()
        for name, effect in effects.items()
    }
    sizes = {name: float((weights[name] * squares[name]).sum()) / float(counts.sum()) for name in names}
    if not all(sizes.values()):
        raise ConfigError("the source's feature maps are all 0 on these images: there is nothing to hold on to")
    return weights, sizes, Cost(passes=3.0 * len(sample))
