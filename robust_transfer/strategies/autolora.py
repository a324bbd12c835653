"""AutoLoRa (Xu et al. 2024): the natural objective through a low-rank branch, the adversarial one through the network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from robust_transfer import losses
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.cost import Cost
from robust_transfer.data import Split, Task
from robust_transfer.data.weights import mean
from robust_transfer.errors import ConfigError
from robust_transfer.monitor import predict
from robust_transfer.pretraining.objective import AdversarialObjective
from robust_transfer.randomness import Address
from robust_transfer.run import Run
from robust_transfer.strategies.attacked import ByPGD
from robust_transfer.strategies.base import STRATEGIES
from robust_transfer.strategies.low_rank import LowRank
from robust_transfer.strategies.trained import Minimised, TrainingStart
from robust_transfer.threat import Threat
from robust_transfer.training import Batch, Objective


@STRATEGIES.register(
    "autolora",
    summary="adversarial training on the target, natural images through a low-rank branch",
    paper="Xu et al. 2024 (AutoLoRa)",
)
@config
class AutoLoRa(ByPGD):
    """Minimises ``(1 - a) CE(q(x), y) + a CE(p(x'), y) + scale a KL(q(x) || p(x'))``: ``q`` the branch, ``p`` the network.

    ``a`` is the branch's accuracy on the training images: at the start, then over the steps of the last epoch (the released
    code measures it four times an epoch, by passes of its own). The branch, of rank ``rank``, takes the natural images'
    gradients in the body's place; the head takes those of both. The result is the network without it. Batch norm sees
    images of both kinds. The paper's automatic learning rate is ``schedule=automatic`` with ``select=robust``; the default
    is its rivals' schedule.
    """

    weighs: ClassVar[bool] = True

    rank: int = 8
    scale: float = 6.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank < 1 or self.scale < 0:
            raise ConfigError("autolora needs a rank of at least 1, and a scale that is not negative")

    @property
    @override
    def passes_per_image(self) -> float:
        return 6.0 + 2.0 * self.steps

    @override
    def preparation(self, task: Task) -> float:
        return float(len(task.train))

    @override
    def start(self, source: Checkpoint, task: Task, run: Run) -> TrainingStart:
        classifier = source.classifier.with_head(task.num_classes, seed=run.seed)
        return TrainingStart(classifier, "from the source, with a new random head")

    @override
    def objective(self, source: Checkpoint, start: TrainingStart, task: Task, run: Run) -> Minimised:
        made = super().objective(source, start, task, run)
        return dataclasses.replace(made, cost=Cost(passes=len(task.train)))

    @override
    def crafting(self, source: Checkpoint, start: TrainingStart, task: Task, threat: Threat, run: Run) -> Objective:
        generator = Address(run.seed, "autolora").generator()
        return AutoLoRaObjective(
            start.classifier,
            LowRank(start.classifier, self.rank, generator),
            threat,
            run,
            steps=self.steps,
            step=self.step,
            scale=self.scale,
            accuracy=accuracy(start.classifier, task.train, run),
            epoch=round(self.images_seen(len(task.train)) / self.epochs),
        )


class AutoLoRaObjective(AdversarialObjective):
    """Mean over the batch of :class:`AutoLoRa`'s loss; ``epoch``: how many images the branch's ``accuracy`` is over."""

    accuracy: Tensor
    right: Tensor
    seen: Tensor

    def __init__(
        self,
        classifier: Classifier,
        branch: LowRank,
        threat: Threat,
        run: Run,
        *,
        steps: int,
        step: float,
        scale: float,
        accuracy: float,
        epoch: int,
    ) -> None:
        super().__init__(classifier, threat, run, steps=steps, step=step)
        self.branch, self.scale, self.epoch = branch, scale, epoch
        for name, value in (("accuracy", accuracy), ("right", 0.0), ("seen", 0.0)):
            self.register_buffer(name, torch.tensor(value))

    @property
    @override
    def passes_per_image(self) -> float:  # type: ignore[override]
        return 6.0 + 2.0 * int(self.steps)

    @override
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        crafted = self.craft(batch)
        natural = self.branch(self.classifier, batch.images)
        attacked = self.classifier(crafted)
        right = (natural.argmax(1) == batch.labels).float()
        self._right = right if batch.weights is None else right * batch.weights
        found = {
            "natural_loss": batch.cross_entropy(natural),
            "adversarial_loss": batch.cross_entropy(attacked),
            "divergence": batch.mean(losses.kl(attacked, natural)),
        }
        share = self.accuracy.clone()
        loss = (1 - share) * found["natural_loss"] + share * (
            found["adversarial_loss"] + self.scale * found["divergence"]
        )
        return {"loss": loss, **found, "branch_accuracy": share, "logits": attacked}

    @override
    def after_backward(self, gather: Callable[[Tensor], Tensor]) -> None:
        """Count the branch's right answers; an epoch's decide the weights of the next."""
        right = gather(self._right)
        self.right += right.sum()
        self.seen += len(right)
        if self.seen >= self.epoch:
            self.accuracy.copy_((self.right / self.seen).clamp(max=1))
            self.right.zero_()
            self.seen.zero_()


def accuracy(classifier: Classifier, split: Split, run: Run) -> float:
    """Share of ``split``'s images that ``classifier`` is right on, each counting as often as its weight says."""
    right = [predict(classifier, images, run) == labels for images, labels, _ in split.batches(250)]
    return mean(torch.cat(right), split.weights)
