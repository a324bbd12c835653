"""Retraining of the last blocks, naturally: locates robustness in the network (Shafahi et al. 2020, section 3)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from typing_extensions import override

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.randomness import Address
from robust_transfer.run import Run
from robust_transfer.strategies.base import STRATEGIES
from robust_transfer.strategies.trained import BatchNorm, Trained, TrainingStart
from robust_transfer.training.settings import Augment, Schedule


@STRATEGIES.register(
    "last-blocks",
    summary="the last k blocks re-initialised and trained on natural images",
    paper="Shafahi et al. 2020, section 3",
)
@config
class LastBlocks(Trained):
    """Re-initialise and train the last ``blocks`` (k) of the network; earlier ones stay frozen.

    k = 1 is the head alone, the largest k the whole network: natural training from scratch. Retrained blocks are in
    training mode (``batch_norm=train``), frozen ones in evaluation mode throughout.
    """

    weighs: ClassVar[bool] = True
    quick: ClassVar[dict[str, Any]] = {"epochs": 1, "augment": False, "blocks": 2}

    blocks: int = 1
    epochs: float = 20.0
    learning_rate: float = 0.05
    weight_decay: float = 5e-4
    schedule: Schedule = "cosine"
    augment: Augment = True
    batch_norm: BatchNorm = "train"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.blocks < 1:
            raise ConfigError(f"blocks must be at least 1 (the head alone), not {self.blocks}")

    @override
    def check(self, source: Checkpoint, task: Task) -> None:
        super().check(source, task)
        if self.blocks > (most := len(source.classifier.blocks())):
            raise ConfigError(f"the network has {most} blocks, the head among them: blocks={self.blocks} is too many")

    @override
    def start(self, source: Checkpoint, task: Task, run: Run) -> TrainingStart:
        classifier = source.classifier.with_head(task.num_classes, seed=run.seed)
        classifier.hold_batch_norm = False
        # other weights than training from scratch with this seed begins with: the source may have begun with those
        torch.manual_seed(Address(run.seed, "last-blocks").generator().initial_seed())
        fresh = Classifier.build(classifier.spec).state_dict()
        blocks = classifier.blocks()
        drawn = [name for block in blocks[-self.blocks :] for name in block if not name.startswith("head.")]
        classifier.load_state_dict({**classifier.state_dict(), **{name: fresh[name] for name in drawn}}, strict=True)
        kept = [name for block in blocks[: -self.blocks] for name in block]
        classifier.freeze(kept)
        return TrainingStart(
            classifier,
            f"the last {self.blocks} of {len(blocks)} blocks drawn anew",
            metrics={"blocks": self.blocks, "of_blocks": len(blocks)},
        )
