"""Free adversarial training (Shafahi et al. 2019): one backward pass gives the gradients of the weights and of the image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.pretraining.base import PRETRAINING, Pretraining
from robust_transfer.pretraining.crafting import CraftingObjective
from robust_transfer.run import Run
from robust_transfer.threat import Threat
from robust_transfer.training import Batch, Objective


@PRETRAINING.register(
    "free", summary="weights and perturbation from one backward pass, minibatches replayed", paper="Shafahi et al. 2019"
)
@config
class Free(Pretraining):
    """Each minibatch is replayed ``replays`` times (m), its perturbation growing by ``step * eps`` a time.

    The perturbation belongs to the place in the minibatch and is carried over to the next one. ``epochs`` are those of
    equal cost: the data is seen ``epochs / replays`` times, as the method divides them. The paper: m = 8 for CIFAR.
    ``preset=paper``: as the transfer paper's free-trained sources (Shafahi et al. 2020, section 4).
    """

    weighs: ClassVar[bool] = True
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"epochs": 120.0, "replays": 8, "learning_rate": 0.1, "schedule": "step"}
    }

    replays: int = 8
    step: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.replays < 1 or self.step <= 0:
            raise ConfigError("free needs at least one replay and a positive step")

    @override
    def objective(self, classifier: Classifier, task: Task, threat: Threat, run: Run) -> Objective:
        slots = min(self.batch_size, len(task.train))
        return FreeObjective(classifier, threat, replays=self.replays, step=self.step, slots=slots)


class FreeObjective(CraftingObjective):
    """Cross-entropy on ``x + delta``; ``delta`` ``(slots, 3, H, W)`` ascends it by each step's own gradient.

    The classifier is in training mode throughout: there is no pass but the training step's.
    """

    delta: Tensor
    passes_per_image = 3.0  # the image's gradient is a by-product of the weights'

    def __init__(self, classifier: Classifier, threat: Threat, *, replays: int, step: float, slots: int) -> None:
        super().__init__(classifier, threat)
        self.replays, self.step = replays, step
        size = classifier.spec.input_size
        self.register_buffer("delta", torch.zeros(slots, 3, size, size))

    @override
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        own = self.delta[batch.slots] if batch.slots is not None else self.delta[: len(batch.images)]
        self._within = self.threat_at(batch)
        self._own = own.detach().clone().requires_grad_(True)
        logits = self.classifier((batch.images + self._own).clamp(0, 1))
        return {"loss": batch.cross_entropy(logits), "logits": logits}

    def after_backward(self, gather: Callable[[Tensor], Tensor]) -> None:
        """Move the perturbation by one step."""
        gradient = self._own.grad
        assert gradient is not None
        threat = self._within
        moved = self._own.detach() + self.step * threat.eps * threat.steepest(gradient)
        rows = gather(threat.shorten(moved))  # every process holds all of it: so does the resume state
        self.delta[: len(rows)] = rows
