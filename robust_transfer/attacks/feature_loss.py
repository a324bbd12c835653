"""Adaptive attack on networks whose features are held near their source's (learning without forgetting).

An attack has to target the mechanism of a defence (Tramèr et al. 2020): here the distance to the source's features,
which training made small on natural images. It maximises cross-entropy plus that distance.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from robust_transfer import losses
from robust_transfer.attacks.apgd import Climb, climb
from robust_transfer.attacks.base import ATTACKS, Attack, BestSoFar
from robust_transfer.attacks.source_features import away
from robust_transfer.attacks.victim import Victim
from robust_transfer.classifier import Classifier, Features
from robust_transfer.config import config
from robust_transfer.errors import ConfigError
from robust_transfer.threat import Threat


class LogitsAndFeatures(nn.Module):
    """Classifier's logits and, beside them, its penultimate features: ``(B, K + d)``."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        """Logits and features of images in [0, 1]."""
        z = self.classifier.features(x)
        return torch.cat([self.classifier.classify(z), z], 1)


@ATTACKS.register(
    "feature-loss",
    summary="maximises cross-entropy plus the distance to the source's features",
    paper="adaptive: Tramèr et al. 2020; the loss of Shafahi et al. 2020, section 6",
)
@config
class FeatureLoss(Attack):
    """``steps`` steps of Auto-PGD on ``ce + weight * |z - z0| / |z0|``, every fifth iterate scored.

    ``z`` are the model's features of the iterate and ``z0`` the source's of the clean image; l2 norms.
    """

    steps: int = 50
    weight: float = 1.0

    count: ClassVar[str | None] = "steps"
    needs_source: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise ConfigError("feature-loss needs at least 1 step")

    def run(self, target: Victim, x: Tensor, labels: Tensor, ids: Tensor, threat: Threat, seed: int) -> Tensor:
        """Return, per example, a breaking iterate or else the one with the largest margin."""
        model, known = target.model, target.knowledge
        if known is None:
            raise ConfigError("feature-loss needs the source that the model was transferred from: give it")
        if not isinstance(model, Classifier) or model.num_features != known.source.num_features:
            raise ConfigError("feature-loss needs a model with features of the same size as the source's")
        with target.beside(Features(known.source.to(x.device))) as source:
            clean = source.logits(x)

        odds, labelled = losses.settle(losses.log_odds, lambda: target.guess(x), labels)

        def loss(out: Tensor, aim: Tensor) -> Tensor:
            z0, own = aim[:, : clean.shape[1]], aim[:, clean.shape[1] :]
            logits, z = out[:, : model.num_classes], out[:, model.num_classes :]
            lengths: Tensor = z0.norm(dim=1).clamp_min(1e-12)
            return odds(logits, own) + self.weight * away(z, z0).add(1e-12).sqrt() / lengths

        worst, rows = BestSoFar(x), torch.arange(len(x), device=x.device)
        start = threat.random_start(x, ids, seed=seed, purpose="feature-loss")
        aim = torch.cat([clean, labelled], 1)
        climbs = Climb.begin(rows, x, labels, aim, start, threat.eps)
        with target.beside(LogitsAndFeatures(model)) as guide:
            climb(target, climbs, loss, threat, self.steps, worst, guide=guide, every=5)
        return worst.images
