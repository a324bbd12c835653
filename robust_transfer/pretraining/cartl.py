"""CARTL's source (Chen et al. 2021): adversarial training that also keeps features where the clean image has them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from robust_transfer.activations import block_modules, captured
from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.pretraining.base import PRETRAINING
from robust_transfer.pretraining.objective import AdversarialObjective
from robust_transfer.pretraining.weight_perturbation import Crafting
from robust_transfer.run import Run
from robust_transfer.threat import Threat
from robust_transfer.training import Batch, Objective


@PRETRAINING.register(
    "cartl",
    summary="pgd-at plus the distance that an attack moves features",
    paper="Chen et al. 2021 (CARTL), section 4",
)
@config
class CARTL(Crafting):
    """``CE(f(x'), y) + weight * |z(x') - z(x)|``, ``x'`` by ``steps`` steps of ``step * eps`` up the cross-entropy.

    ``z`` are the features that the last ``blocks`` blocks read, those that a transfer will retrain: 1 (the head alone) for
    penultimate features, as in ``last-blocks``. The distance is the l2 norm, a mean over images (the released code sums
    it: its weight times the batch's size is ours). Both images are trained on, the attacked first.
    """

    weighs: ClassVar[bool] = True
    loss_passes: ClassVar[float] = 6.0  # adversarial and clean images

    weight: float = 0.1
    blocks: int = 1
    steps: int = 7
    step: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1 or self.step <= 0 or self.weight < 0 or self.blocks < 1:
            raise ConfigError(
                "cartl needs at least one step, of positive length, a weight that is not negative, and at least one block"
            )
        if self.compile and self.blocks > 1:
            raise ConfigError(
                "cartl with blocks above 1 looks inside the network, which compile=true fuses: leave it out"
            )

    @property
    @override
    def passes_per_image(self) -> float:
        return self.training_passes + 2.0 * self.steps

    @override
    def objective(self, classifier: Classifier, task: Task, threat: Threat, run: Run) -> Objective:
        return CARTLObjective(
            classifier,
            threat,
            run,
            steps=self.steps,
            step=self.step,
            weight=self.weight,
            cut=cut_of(classifier, self.blocks),
            awp=self.awp,
        )


def cut_of(classifier: Classifier, blocks: int) -> str | None:
    """Path of the module whose output the last ``blocks`` blocks read; None for penultimate features."""
    if blocks == 1:
        return None
    below, found = len(classifier.blocks()) - 1, list(block_modules(classifier))
    if blocks > below:
        raise ConfigError(f"the network has {below} blocks below its head: blocks={blocks} would leave none to train")
    if len(found) != below:
        raise ConfigError(f"{classifier.spec.name} has blocks that are no module of their own: use blocks=1")
    return f"body.{found[-blocks]}"


class CARTLObjective(AdversarialObjective):
    """Mean over the batch of :class:`CARTL`'s loss; gradients flow through both images' features."""

    loss_passes: ClassVar[float] = CARTL.loss_passes

    def __init__(
        self,
        classifier: Classifier,
        threat: Threat,
        run: Run,
        *,
        steps: int,
        step: float,
        weight: float,
        cut: str | None = None,
        awp: float = 0.0,
    ) -> None:
        super().__init__(classifier, threat, run, steps=steps, step=step, awp=awp)
        self.weight, self.cut = weight, cut

    @override
    def terms(self, batch: Batch, crafted: Tensor) -> dict[str, Tensor]:
        attacked, logits = self._seen(crafted)
        clean, _ = self._seen(batch.images)
        distance = batch.mean(torch.linalg.vector_norm((attacked - clean).flatten(1), dim=1))
        cross_entropy = batch.cross_entropy(logits)
        return {
            "loss": cross_entropy + self.weight * distance,
            "cross_entropy": cross_entropy,
            "feature_distance": distance,
            "logits": logits,
        }

    def _seen(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features at the cut, in float32, and logits."""
        with self._inside() as found:
            features = self.classifier.features(x)
        at_cut = features if self.cut is None else found["cut"].float()
        return at_cut, self.classifier.classify(features)

    def _inside(self) -> AbstractContextManager[dict[str, Tensor]]:
        modules: dict[str, nn.Module] = {}
        if self.cut is not None:
            modules["cut"] = self.classifier.get_submodule(self.cut)
        return captured(modules)
