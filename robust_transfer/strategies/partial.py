"""Base of the strategies that fine-tune a few of the weights, by name, and leave the others as the source has them."""

from __future__ import annotations

from abc import abstractmethod

from typing_extensions import override

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.run import Run
from robust_transfer.strategies.base import STRATEGIES
from robust_transfer.strategies.fine_tune import FineTune
from robust_transfer.strategies.trained import TrainingStart


@config
class Partial(FineTune):
    """Base of the strategies that train the head and the parameters of the body that :meth:`trained` names.

    The head begins at the probe, as in :class:`FineTune`. Everything else is frozen, statistics of norms included, but where
    ``batch_norm=train`` lets them adapt.
    """

    learning_rate: float = 1e-2  # few weights of small effect: a higher rate than that of all weights

    @abstractmethod
    def trained(self, classifier: Classifier) -> set[str]:
        """State names in the body that are trained, statistics that go with them included."""

    def check(self, source: Checkpoint, task: Task) -> None:
        """Refuse a network that has no such parameters."""
        super().check(source, task)
        if not self.trained(source.classifier):
            name = STRATEGIES.name_of(type(self))
            raise ConfigError(
                f"{name} has nothing to train in a {source.card.network.name!r}: use linear-probe, or fine-tune"
            )

    @override
    def start(self, source: Checkpoint, task: Task, run: Run) -> TrainingStart:
        start = super().start(source, task, run)
        classifier = start.classifier
        chosen = self.trained(classifier)
        classifier.hold_batch_norm = self.batch_norm == "eval"
        classifier.freeze(n for n in classifier.state_dict() if not n.startswith("head.") and n not in chosen)
        start.metrics["trained_parameters"] = sum(p.numel() for p in classifier.parameters() if p.requires_grad)
        return start
