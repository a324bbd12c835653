"""Images made from features: maximisation of single features, inversion of all of them (section 5).

Both walk in the box [0, 1] along normalised gradients from noise, coarse or fine, without any prior on images: what looks like
something was in the features (Engstrom et al. 2019).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from robust_transfer.classifier import Classifier
from robust_transfer.modes import eval_mode, without_weight_gradients
from robust_transfer.randomness import Address, uniform

FIELDS, PATCHES = 128, 4  # how many smooth fields are tried as a start, and of how many patches along a side they are
FIRST_STEP = 0.05  # of the first step, as a share of the diagonal of the box; it falls to 0 linearly


def maximise(classifier: Classifier, units: Tensor, *, steps: int, seed: int = 0) -> Tensor:
    """One image that raises each of ``units`` (int64 ``(U,)``, indices of penultimate features), ``(U, 3, H, W)``."""
    units = units.to(classifier.device)
    rows = torch.arange(len(units), device=units.device)
    # after a ReLU many features are 0 near grey, with no way up from there: begin where a unit is alive
    fields = _fields(classifier, seed)
    with eval_mode(classifier), torch.no_grad():
        start = fields[classifier.features(fields)[:, units].argmax(0)]
    return _walk(classifier, start, lambda z: z[rows, units], steps)


def reconstruct(classifier: Classifier, x: Tensor, *, steps: int, seed: int = 0) -> Tensor:
    """One image per given image, optimised from noise to match its penultimate features, ``(B, 3, H, W)``."""
    with eval_mode(classifier), torch.no_grad():
        wanted = classifier.features(x)
    start = _noise(classifier, len(x), "reconstruct", seed)
    return _walk(classifier, start, lambda z: -(z - wanted).square().sum(1), steps)


def _noise(classifier: Classifier, count: int, purpose: str, seed: int) -> Tensor:
    """Grey images with some noise."""
    size = classifier.spec.input_size
    ids = torch.arange(count, device=classifier.device)
    return 0.5 + 0.1 * (uniform(Address(seed, f"analysis/{purpose}"), ids, (3, size, size)) - 0.5)


def _fields(classifier: Classifier, seed: int) -> Tensor:
    """Smooth fields of colour, from random patches."""
    size, ids = classifier.spec.input_size, torch.arange(FIELDS, device=classifier.device)
    coarse = uniform(Address(seed, "analysis/fields"), ids, (3, PATCHES, PATCHES))
    return interpolate(coarse, size=(size, size), mode="bilinear", align_corners=False)


def _walk(classifier: Classifier, start: Tensor, aim: Callable[[Tensor], Tensor], steps: int) -> Tensor:
    """Gradient ascent on ``aim`` of the features, each image by itself; returns the best iterate of each."""
    at, best = start, start.clone()
    value = torch.full((len(start),), -torch.inf, device=start.device)
    length = FIRST_STEP * start[0].numel() ** 0.5
    with eval_mode(classifier), without_weight_gradients(classifier), torch.enable_grad():
        for step in range(steps + 1):
            at = at.detach().requires_grad_(True)
            now = aim(classifier.features(at))
            (gradient,) = torch.autograd.grad(now.sum(), at)
            better = now.detach() > value
            best[better], value[better] = at.detach()[better], now.detach()[better]
            size = gradient.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
            at = (at.detach() + length * (1 - step / (steps + 1)) * gradient / size).clamp(0, 1)
    return best
