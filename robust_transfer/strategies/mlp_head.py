"""Deeper heads on frozen features (Shafahi et al. 2020, section 4): a better fit on training images, not on validation."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.cost import Cost
from robust_transfer.data import Split, Task
from robust_transfer.data.weights import mean
from robust_transfer.errors import ConfigError
from robust_transfer.heads import HeadSpec, new_mlp, replacement_head_rng
from robust_transfer.run import Run
from robust_transfer.strategies.base import STRATEGIES
from robust_transfer.strategies.features import features_of
from robust_transfer.strategies.softmax import Standardisation
from robust_transfer.strategies.trained import BatchNorm, Minimised, Trained, TrainingStart
from robust_transfer.threat import Threat
from robust_transfer.training import Batch, CachedRows, Objective, Validate


@STRATEGIES.register(
    "mlp-head", summary="a head of several layers on frozen features", paper="Shafahi et al. 2020, section 4"
)
@config
class MLPHead(Trained):
    """``depth`` hidden layers of ``width`` units with ReLU, optionally with ``layer_batch_norm`` and ``dropout``.

    Features are computed once, in evaluation mode, and standardised. Without hidden layers it would be a linear probe.
    """

    weighs: ClassVar[bool] = True
    quick: ClassVar[dict[str, Any]] = {"epochs": 10, "width": 32, "batch_size": 16, "learning_rate": 0.05}

    depth: int = 1
    width: int = 512
    layer_batch_norm: bool = False
    dropout: float = 0.0
    epochs: float = 30.0
    learning_rate: float = 0.02
    weight_decay: float = 5e-4
    batch_norm: BatchNorm = "train"  # of the head: all else is frozen

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.augment:
            raise ConfigError("mlp-head computes features once, so images cannot be augmented: use augment=false")
        if self.depth < 1 or self.width < 1:
            raise ConfigError("mlp-head needs at least one layer and one unit (for none, use linear-probe)")
        self.spec()

    def spec(self) -> HeadSpec:
        """Head in the form of a network's description."""
        return HeadSpec(hidden=(self.width,) * self.depth, batch_norm=self.layer_batch_norm, dropout=self.dropout)

    @override
    def check(self, source: Checkpoint, task: Task) -> None:
        super().check(source, task)
        if self.layer_batch_norm and self.batch_norm == "train" and min(self.batch_size, len(task.train)) == 1:
            raise ConfigError("batch norm cannot be trained on one image at a time: give a batch_size of at least 2")

    def passes(self, task: Task) -> float:
        """Forecast: one pass of the network per image; only the head is trained."""
        return float(len(task.train))

    @override
    def start(self, source: Checkpoint, task: Task, run: Run) -> TrainingStart:
        features, how = features_of(source.classifier, task.train, run), self.spec()
        head = new_mlp(features.shape[1], task.num_classes, how, replacement_head_rng(run.seed))
        standardisation = Standardisation.of(features, task.train.weights)
        head.mean.copy_(standardisation.mean)
        head.std.copy_(standardisation.std)
        classifier = source.classifier.with_layers(head, how)
        classifier.freeze()
        # of val, too, where they are validated on: here and not by the validation, or each resumed run would count them again
        computed = len(features) + (len(task.val) if self.select != "robust" else 0)
        cost = Cost(passes=computed)
        return TrainingStart(classifier, f"new head of {self.depth} hidden layers", cost=cost, features=features)

    @override
    def objective(self, source: Checkpoint, start: TrainingStart, task: Task, run: Run) -> Minimised:
        assert start.features is not None
        return Minimised(HeadObjective(start.classifier, start.features, self.patience(task)))

    def validation(self, classifier: Classifier, task: Task, threat: Threat | None, run: Run) -> Validate:
        """Validation of clean accuracy on precomputed features."""
        if threat is not None:
            return super().validation(classifier, task, threat, run)
        return HeadValidation(features_of(classifier, task.val, run), task.val)


class HeadObjective(Objective):
    """Cross-entropy of the head on precomputed ``features`` ``(n, d)``; the network below is not run."""

    passes_per_image = 0.0
    needs_images = False

    def __init__(self, classifier: Classifier, features: Tensor, patience: int) -> None:
        super().__init__(classifier)
        self.collapse_patience = patience
        self.known = CachedRows(features)

    @override
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.classifier.classify(self.known(batch))
        return {"loss": batch.cross_entropy(logits), "logits": logits}


class HeadValidation:
    """Clean accuracy of a head on precomputed ``features`` ``(n, d)`` of ``val``."""

    def __init__(self, features: Tensor, val: Split) -> None:
        self.features, self.val = features, val

    def __call__(self, classifier: Classifier) -> dict[str, float]:
        """Clean accuracy."""
        with classifier.eval_mode(), torch.no_grad():
            predicted = classifier.classify(self.features.to(classifier.device)).argmax(1).cpu()
        return {"clean_accuracy": mean(predicted == self.val.labels, self.val.weights)}
