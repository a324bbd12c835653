"""Shared helpers for tests of ``fit``: plain settings, and a natural objective on a tiny network."""

from __future__ import annotations

from typing import Any

from helpers import make_classifier
from torch import Tensor

from robust_transfer.classifier import Classifier
from robust_transfer.run import Run
from robust_transfer.training import NaturalObjective, TrainingSettings

RUN = Run(precision="float32", quiet=True, device="cpu")
PLAIN = TrainingSettings(epochs=2, batch_size=50, learning_rate=0.05, augment=False)  # 6 steps an epoch of 320 images


def settings(**changes: Any) -> TrainingSettings:
    return TrainingSettings(**{**vars_of(PLAIN), **changes})


def vars_of(made: TrainingSettings) -> dict[str, Any]:
    return {name: getattr(made, name) for name in made.__dataclass_fields__}


def natural(seed: int = 0) -> NaturalObjective:
    return NaturalObjective(make_classifier(seed), collapse_patience=400)


class Scripted:
    """A validation that reads its figures from a script and remembers the weights that it saw."""

    def __init__(self, **figures: list[float]) -> None:
        self.figures, self.seen = figures, list[dict[str, Tensor]]()

    def __call__(self, classifier: Classifier) -> dict[str, float]:
        self.seen.append({k: v.clone() for k, v in classifier.state_dict().items()})
        return {k: values[len(self.seen) - 1] for k, values in self.figures.items()}
