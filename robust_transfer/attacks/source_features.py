"""Attack through the public source of a transferred model: perturb its features, apply the images to the model.

The attacker needs no gradient of the model under attack. The public source network is enough: its penultimate
features are pushed away from those of the clean image, then towards those of images of other classes (Wang et al.
2018, section 4: features that are mimicked are classified as what they mimic), and the resulting images are scored by
the model.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from robust_transfer.attacks.apgd import Climb, climb, step_checkpoints
from robust_transfer.attacks.base import ATTACKS, Attack, BestSoFar
from robust_transfer.attacks.victim import Victim, attacking
from robust_transfer.classifier import Classifier, Features
from robust_transfer.config import config
from robust_transfer.errors import ConfigError
from robust_transfer.threat import Threat


def away(features: Tensor, clean: Tensor) -> Tensor:
    """Squared l2 distance from ``clean``, ``(B,)``."""
    return (features - clean).square().sum(1)


def towards(features: Tensor, aim: Tensor) -> Tensor:
    """Minus the squared l2 distance from ``aim``, ``(B,)``."""
    return -away(features, aim)


def feature_drift(model: Classifier, x: Tensor, ids: Tensor, threat: Threat, *, steps: int, seed: int) -> Tensor:
    """Largest relative shift of each image's features without labels: ``max |z(x') - z(x)| / |z(x)|``, ``(B,)``.

    A linear head's robustness is bounded by it. See :func:`feature_shift`.
    """
    shift, length = feature_shift(model, x, ids, threat, steps=steps, seed=seed)
    return shift / length.clamp_min(1e-12)


def feature_shift(
    model: Classifier, x: Tensor, ids: Tensor, threat: Threat, *, steps: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Largest shift ``|z(x') - z(x)|`` of each image's features, and their length ``|z(x)|``, both ``(B,)``.

    By ``steps`` steps of Auto-PGD on ``model``'s own features, without labels.
    """
    with attacking(Features(model), x.device, size=x.shape[-1]) as target:
        clean = target.logits(x)
        start = threat.random_start(x, ids, seed=seed, purpose="feature-drift")
        climbs = Climb.begin(torch.arange(len(x), device=x.device), x, ids, clean, start, threat.eps)
        intervals = step_checkpoints(steps)
        for step in range(steps):
            features, gradient = target.gradient(climbs.at, clean, away)
            climbs.step(away(features, clean), gradient, threat, step, intervals)
        furthest = torch.maximum(climbs.best_value, away(target.logits(climbs.at), clean))
        return furthest.sqrt(), clean.norm(dim=1)


@ATTACKS.register(
    "source-features",
    summary="perturbs the features of the public source, and applies the images to the model",
    paper="Wang et al. 2018, section 4",
)
@config
class SourceFeatures(Attack):
    """``steps`` steps of Auto-PGD on the source's features away from the clean image, and as many towards each of
    ``images`` known images of other classes, those whose features are nearest. Every fifth iterate is scored.
    """

    steps: int = 20
    images: int = 3

    count: ClassVar[str | None] = "steps"
    needs_source: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1 or self.images < 0:
            raise ConfigError("source-features needs at least 1 step and no negative number of images")

    @property
    @override
    def most_steps(self) -> int:
        return self.steps * (self.images + 1)

    def run(self, target: Victim, x: Tensor, labels: Tensor, ids: Tensor, threat: Threat, seed: int) -> Tensor:
        """Return, per example, a breaking iterate or else the one with the largest margin."""
        known = target.knowledge
        if known is None:
            raise ConfigError("source-features attacks by the source that the model was transferred from: give it")
        worst, rows = BestSoFar(x), torch.arange(len(x), device=x.device)
        with target.beside(Features(known.source.to(x.device))) as source:
            clean = source.logits(x)
            aims = self._aims(source, clean, labels, known.images.to(x.device), known.labels.to(x.device))
            for number in range(aims.shape[1] + 1):
                start = threat.random_start(x[rows], ids[rows], seed=seed, purpose=f"source-features/{number}")
                loss, aim = (towards, aims[rows, number - 1]) if number else (away, clean[rows])
                climbs = Climb.begin(rows, x[rows], labels[rows], aim, start, threat.eps)
                rows = climb(target, climbs, loss, threat, self.steps, worst, guide=source, every=5)
                if not len(rows):
                    break
        return worst.images

    def _aims(self, source: Victim, clean: Tensor, labels: Tensor, images: Tensor, their_labels: Tensor) -> Tensor:
        """Features of the nearest known images of other classes, ``(B, k, d)``."""
        features = source.logits(images)
        far = torch.cdist(clean, features, compute_mode="donot_use_mm_for_euclid_dist")
        far = far.masked_fill(labels[:, None] == their_labels[None], torch.inf)
        nearest = far.topk(min(self.images, len(images)), largest=False)
        usable = nearest.values.isfinite()[..., None]
        return torch.where(usable, features[nearest.indices], clean[:, None])
