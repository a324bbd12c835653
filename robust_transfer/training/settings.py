"""Settings shared by all trained methods: epochs, optimiser, schedule, weight averaging, selection."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import nn

from robust_transfer.config import config
from robust_transfer.data import Augmentation
from robust_transfer.data.resized_crop import RandomResizedCrop
from robust_transfer.errors import ConfigError

Schedule = Literal["constant", "cosine", "one-cycle", "step", "automatic"]
Augment = bool | Literal["pad-crop", "random-resized-crop"]
MIN_RESIZED_CROP = 64  # pixels, from which on random resized crops are usual
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda t: 1.0,
    "cosine": lambda t: 0.5 * (1 + math.cos(math.pi * t)),
    "one-cycle": lambda t: t / 0.3 if t < 0.3 else (1 - t) / 0.7,  # linear up, linear down
    "step": lambda t: 1.0 if t < 0.5 else 0.1 if t < 0.75 else 0.01,
    "automatic": lambda t: 1.0,  # halved by what is measured on val
}


@config
class TrainingSettings:
    """Settings of training.

    ``learning_rate`` is the schedule's peak; ``schedule`` a function of the share of steps done, or
    ``automatic``: halved where robust accuracy on val no longer rises (see :mod:`.automatic_rate`). ``ema``: decay of an
    exponential moving average of weights and batch statistics, which is then validated and kept (None: none); it rises to
    that from 0. ``select``: keep the ``last`` weights, or those of the epoch with the best ``clean`` or ``robust``
    accuracy on val. ``augment``: ``pad-crop`` (``pad`` pixels of zeros around the image, a random crop, a ``flip``),
    ``random-resized-crop`` (a random part enlarged, a ``flip``), false for neither, or true for the usual one at the
    images' size: the first below 64 pixels, the second from there on. ``compile`` fuses the network with torch.compile.
    ``guard_every`` is in steps.
    """

    epochs: float = 10.0
    batch_size: int = 128
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    schedule: Schedule = "cosine"
    ema: float | None = None
    augment: Augment = True
    pad: int = 4
    flip: bool = True
    select: Literal["last", "clean", "robust"] = "last"
    compile: bool = False
    guard_every: int = 200

    def __post_init__(self) -> None:
        if self.epochs <= 0:
            raise ConfigError(f"epochs must be positive, not {self.epochs}")
        if self.batch_size < 1 or self.guard_every < 1:
            raise ConfigError("batch_size and guard_every must be at least 1")
        if self.learning_rate <= 0:
            raise ConfigError(f"learning_rate must be positive, not {self.learning_rate}")
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"momentum must be at least 0 and below 1, not {self.momentum}")
        if self.nesterov and not self.momentum:
            raise ConfigError("nesterov needs a positive momentum: set nesterov=false, too")
        if self.weight_decay < 0 or self.pad < 0:
            raise ConfigError("weight_decay and pad must be at least 0")
        if self.schedule == "automatic" and self.select != "robust":
            raise ConfigError("schedule=automatic follows robust accuracy on val: set select=robust, too")
        if self.schedule == "automatic" and self.ema is not None:
            raise ConfigError(
                "schedule=automatic goes back to the best weights, and ema validates others: leave out ema"
            )
        if self.ema is not None and not 0 < self.ema < 1:
            raise ConfigError(f"ema is a decay between 0 and 1, not {self.ema}")

    def training(self) -> dict[str, Any]:
        """Settings without a subclass's own: for another configuration with the same training."""
        return {name: getattr(self, name) for name in TrainingSettings.__dataclass_fields__}

    def images_seen(self, images: int) -> float:
        """Images trained on in all epochs over ``images``: whole minibatches, where there is at least one."""
        return self.epochs * (images - images % self.batch_size or images)

    def augmentation(self, size: int | None) -> Augmentation | RandomResizedCrop:
        """Augmentation of images of ``size`` pixels a side."""
        if self.augment is False:
            return Augmentation.none()
        if self.augment == "random-resized-crop" or (self.augment is True and (size or 0) >= MIN_RESIZED_CROP):
            return RandomResizedCrop(flip=self.flip)
        return Augmentation(pad=self.pad, flip=self.flip)

    def told(self, size: int | None) -> dict[str, str]:
        """Note for the card on the augmentation of images of ``size`` pixels, if any."""
        how = self.augmentation(size)
        return {"augmentation": str(how)} if how.active else {}

    def rate(self, step: int, total: int) -> float:
        """Learning rate of step ``step`` of ``total``."""
        return self.learning_rate * SCHEDULES[self.schedule](step / total)

    def build_optimizer(
        self, parameters: Iterable[nn.Parameter], undecayed: Iterable[nn.Parameter] = ()
    ) -> torch.optim.Optimizer:
        """Optimiser over the parameters that take gradients; no weight decay on those that are also ``undecayed``.

        Raises :class:`ConfigError` if no parameter takes gradients.
        """
        spared = {id(p) for p in undecayed}
        trained = [p for p in parameters if p.requires_grad]
        if not trained:
            raise ConfigError("every weight is frozen: there is nothing to train")
        decayed, free = ([p for p in trained if (id(p) in spared) is there] for there in (False, True))
        groups: list[dict[str, Any]] = [{"params": decayed}] if decayed else []
        groups += [{"params": free, "weight_decay": 0.0}] if free else []
        if self.optimizer == "adam":
            return torch.optim.Adam(groups, lr=self.learning_rate, weight_decay=self.weight_decay)
        return torch.optim.SGD(
            groups,
            lr=self.learning_rate,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
        )
