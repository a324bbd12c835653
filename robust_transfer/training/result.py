"""Result of ``fit``: the trained classifier, and the record of its training."""

from __future__ import annotations

from dataclasses import dataclass

from robust_transfer.classifier import Classifier
from robust_transfer.cost import Cost


@dataclass(frozen=True)
class FitResult:
    """Trained classifier (averaged or selected, by the settings) and the record of its training.

    ``last`` are the latest figures on val. ``images`` and ``passes`` (forward-equivalent) count all of training,
    undone steps and the guard included, ``validation_passes`` and ``validation_examples`` count validation.
    """

    classifier: Classifier
    figures: dict[str, float]
    best_epoch: int | None
    events: tuple[str, ...]
    images: int
    passes: float
    seconds: float
    validation_passes: float = 0.0
    validation_examples: int = 0
    earlier_seconds: float = 0.0

    def cost(self, adversarial: bool) -> Cost:
        """Passes and examples of training and validation; ``adversarial``: training images were crafted.

        The seconds are those of the interrupted runs before this one.
        """
        return Cost(
            passes=self.passes + self.validation_passes,
            adversarial_examples=(self.images if adversarial else 0) + self.validation_examples,
            seconds=self.earlier_seconds,
        )
