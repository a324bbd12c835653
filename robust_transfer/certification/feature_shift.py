"""Certificate of a linear head: its margins against a sound bound of how far the features can move.

Within a ball of images the features stay in a :class:`~robust_transfer.certification.regions.Region`. The answer is certified
where every margin of the head outlives the farthest move: ``margin_k > |w_y - w_k| * shift``, or in the box. How far an attack
has moved the features is no such bound, as another attack may move them farther. On deep networks the bound grows with
every layer until it says nothing, and then the certificate says that it is vacuous.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from robust_transfer.certification.base import Certified, Certifier
from robust_transfer.certification.bounds import Bounds
from robust_transfer.certification.regions import Region
from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.data import Split
from robust_transfer.errors import ConfigError
from robust_transfer.progress import stage
from robust_transfer.run import Run
from robust_transfer.threat import Threat

TOGETHER = 32  # images
ROUNDS = 20  # of bisection
ROUNDING = 1e-9  # of the logits' size: float64 rounds


@config
class FeatureShift(Certifier):
    """Proof for the network itself, in the evaluation's norm. The radius of each image is found by bisection."""

    title: ClassVar[str] = "feature-shift"

    @override
    def norm(self, threat: Threat) -> str:
        return threat.norm

    @override
    def passes(self, n: int) -> float:
        # a region is three images, in float64
        return 3.0 * n * (ROUNDS + 2)

    @override
    def check(self, model: nn.Module, split: Split, run: Run) -> None:
        bounds = _bounds(model)
        x, _, _ = split.subset(torch.arange(1)).on("cpu")
        with torch.no_grad():
            bounds.features(Region.ball(x, torch.zeros(1), "l2"))

    @override
    def certify(
        self, model: nn.Module, split: Split, threat: Threat, run: Run, *, state: Path | None, identity: dict[str, Any]
    ) -> Certified:
        # on the CPU, where float64 is
        bounds, found = _bounds(model), list[tuple[Tensor, ...]]()
        with torch.no_grad(), stage(f"certifying, {self}", len(split), run.quiet) as bar:
            for rows in torch.arange(len(split)).split(TOGETHER):
                x, _, _ = split.subset(rows).on("cpu")
                found.append(_of(bounds, x, threat))
                bar.advance(len(rows))
        classes, radii, shift, room = (torch.cat(each) for each in zip(*found, strict=True))
        figures = {"median_shift_bound": float(shift.median()), "median_shift_allowed": float(room.median())}
        return Certified(classes.numpy(), radii.numpy(), int(self.passes(len(split))), figures)


def _bounds(model: nn.Module) -> Bounds:
    if not isinstance(model, Classifier):
        raise ConfigError("feature-shift needs a classifier with a head: make one by Classifier.from_module")
    return Bounds(model)


def _of(bounds: Bounds, x: Tensor, threat: Threat) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Classes, radii, the features' shift within ``threat``, and the shift that the head's nearest boundary allows."""
    eps = torch.full((len(x),), threat.eps, dtype=torch.float64)
    features = bounds.features(Region.ball(x, eps, threat.norm))
    classes, _, distances = bounds.margins(features)
    most = float(np.prod(x.shape[1:])) ** 0.5 if threat.norm == "l2" else 1.0
    low, high = torch.zeros_like(eps), torch.full_like(eps, most)
    for step in range(ROUNDS + 1):
        # first the evaluation's own budget: its verdict is not to be rounded
        at = (low + high) / 2 if step else eps
        certain = stands(bounds, x, at, threat.norm)
        low, high = (
            torch.where(certain, torch.maximum(low, at), low),
            torch.where(certain, high, torch.minimum(high, at)),
        )
    return classes, low, features.shift, distances.amin(1)


def stands(bounds: Bounds, x: Tensor, eps: Tensor, norm: str) -> Tensor:
    """True, ``(B,)``, where the class of ``x`` ``(B, C, H, W)`` is proved the same within ``eps`` ``(B,)``."""
    features = bounds.features(Region.ball(x, eps, norm))
    _, least, _ = bounds.margins(features)
    size = features.centre.abs().amax(1) * bounds.layer.weight.abs().sum(1).amax() + 1
    return least.amin(1) > ROUNDING * size
