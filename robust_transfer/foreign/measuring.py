"""Measurement of one candidate on images: its logits, and the distance to its stored batch-norm statistics."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from robust_transfer.errors import CheckpointError
from robust_transfer.progress import stage, tick

GROUPS = 8  # of images, any of which may be left out
AT_ONCE = 4 * 224**2  # pixels of a pass: larger maps leave a CPU's cache, and each is new memory that the system clears
CANCELS = 1000  # squared mean to variance, from where on float32's sums do not tell the variance
MIN_RESIZED_CROP = 64  # pixels: from there on the field trains on random resized crops


@dataclass(frozen=True, eq=False)
class Candidate:
    """One reading of a file: its settings as text, and its module, in evaluation mode."""

    what: dict[str, str]
    build: Callable[[], nn.Module]


@dataclass(frozen=True, eq=False)
class Measured:
    """Candidate with its measurements.

    ``distances``: of all images, then without each group; empty without batch norm. ``right``: correctness ``(n,)``,
    or None.
    """

    candidate: Candidate
    logits: Tensor
    distances: tuple[float, ...]
    right: Tensor | None

    @property
    def distance(self) -> float | None:
        """Distance over all images; None without batch norm."""
        return self.distances[0] if self.distances else None

    @property
    def share(self) -> float:
        """Accuracy on the images."""
        return 0.0 if self.right is None else float(self.right.float().mean())


def measure_all(candidates: Sequence[Candidate], images: Tensor, labels: Tensor | None, label: str) -> list[Measured]:
    """Measure all candidates on images ``(n, 3, H, W)``, plain and cropped as in training, with a bar called ``label``."""
    views = (images, _cropped(images))
    total = len(candidates) * len(views) * len(images)
    with stage(label, total, hidden=False) as shown:
        shown.begin(total)
        found = [_measure(each, views, labels) for each in candidates]
        shown.advance(total)
    return found


def _measure(candidate: Candidate, views: Sequence[Tensor], labels: Tensor | None) -> Measured:
    """Measure a candidate on views of the same images; the nearest view counts. The first view is the plain images."""
    module = candidate.build().eval()
    seen = [_look(module, view) for view in views]
    logits, distances = seen[0][0], min((found for _, found in seen), key=lambda found: found[:1])
    if not bool(logits.isfinite().all()):
        told = ", ".join(f"{key} {value}" for key, value in candidate.what.items())
        raise CheckpointError(f"the network's outputs are not finite (with {told}): the file is damaged, get it again")
    return Measured(candidate, logits, distances, None if labels is None else logits.argmax(1) == labels)


def _look(module: nn.Module, images: Tensor) -> tuple[Tensor, tuple[float, ...]]:
    """Logits, and the distances over all images and without each group."""
    at_once = max(1, AT_ONCE // (images.shape[-2] * images.shape[-1]))
    groups = [group.split(at_once) for group in images.tensor_split(min(GROUPS, len(images)))]
    passes: list[Tensor] = []
    with torch.no_grad(), _statistics(module) as found:
        for part in itertools.chain.from_iterable(groups):
            passes.append(module(part))
            tick(len(part))
    # none that is used twice
    layers = [(layer, _grouped(each, groups)) for layer, each in found.items() if len(each) == len(passes)]
    told = [each for each in map(_distances, layers) if each]
    return torch.cat(passes), tuple(sum(each) / len(told) for each in zip(*told, strict=True))


def _cropped(images: Tensor) -> Tensor:
    """Crops as in training: below :data:`MIN_RESIZED_CROP` pixels with black padding of an eighth, else random resized."""
    size, generator = images.shape[-1], torch.Generator().manual_seed(0)
    if size >= MIN_RESIZED_CROP:
        crops = torch.empty_like(images)
        for image, crop in zip(images, crops, strict=True):
            crop.copy_(_resized_crop(image, generator))
        return crops
    padded = F.pad(images, (size // 8,) * 4)
    corners = torch.randint(0, 2 * (size // 8) + 1, (len(images), 2), generator=generator).tolist()
    return torch.stack([one[:, y : y + size, x : x + size] for one, (y, x) in zip(padded, corners, strict=True)])


def _resized_crop(image: Tensor, generator: torch.Generator) -> Tensor:
    """Square of 8 to 100 % of the area (Szegedy et al. 2015), enlarged."""
    size = image.shape[-1]
    share = 0.08 + 0.92 * float(torch.rand((), generator=generator))
    side = max(1, round(size * share**0.5))
    y, x = (int(torch.randint(0, size - side + 1, (), generator=generator)) for _ in range(2))
    part = image[None, :, y : y + side, x : x + side]
    return F.interpolate(part, size=(size, size), mode="bilinear", antialias=True, align_corners=False)[0]


Moments = list[tuple[Tensor, Tensor]]  # mean and variance of each channel, of a pass or a group of images each


@contextmanager
def _statistics(module: nn.Module) -> Iterator[dict[_BatchNorm, Moments]]:
    """Moments of the inputs of the batch-norm layers in use."""
    found: dict[_BatchNorm, Moments] = {}

    def look(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        found.setdefault(cast(_BatchNorm, layer), []).append(_moments(given[0]))

    layers = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    handles = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel of ``(B, C, ...)``, float64.

    From sums of values and of squares, which take a tenth of the network's own time, unless they cancel out.
    """
    flat = x.flatten(2) if x.dim() > 2 else x[..., None]
    mean, square = (
        side.double().sum(0) / (len(x) * flat.shape[2])
        for side in (flat.sum(2), torch.linalg.vector_norm(flat, dim=2).double().square())
    )
    var = square - mean.square()
    if bool((mean.square() > CANCELS * var).any()):
        return torch.var_mean(flat.double(), (0, 2), correction=0)[::-1]
    return mean, var


def _grouped(passes: Moments, groups: Sequence[Sequence[Tensor]]) -> Moments:
    """Moments of groups of passes."""
    left, merged = iter(passes), Moments()
    for parts in groups:
        means, variances = (torch.stack(side) for side in zip(*(next(left) for _ in parts), strict=True))
        share = torch.tensor([len(part) for part in parts], dtype=means.dtype, device=means.device)[:, None]
        share = share / share.sum()
        mean = (share * means).sum(0)
        merged.append((mean, (share * (variances + (means - mean) ** 2)).sum(0)))
    return merged


def _distances(measured: tuple[_BatchNorm, Moments]) -> list[float]:
    """Distance of a layer over all images, then without each group (of about equal sizes); empty for a dead layer."""
    layer, moments = measured
    alive = _alive(layer)
    if not bool(alive.any()):
        return []
    means, variances = (torch.stack(side)[:, alive] for side in zip(*moments, strict=True))
    mean, square = _left_out(means), _left_out(variances + means.square())
    return list(_divergence(layer, alive, mean, square - mean.square()).tolist())


def _left_out(groups: Tensor) -> Tensor:
    """Means over all of ``(groups, C)``, then without each, ``(1 + groups, C)``; for one group its own only."""
    n, total = len(groups), groups.sum(0, keepdim=True)
    return total if n == 1 else torch.cat([total / n, (total - groups) / (n - 1)])


def _divergence(layer: _BatchNorm, alive: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    """Divergences of Gaussians ``(n, C)`` from the stored one, ``(n,)``."""
    assert layer.running_mean is not None
    assert layer.running_var is not None
    kept, spread = layer.running_mean.double()[alive], layer.running_var.double()[alive]
    ratio = (var + layer.eps) / (spread + layer.eps)
    apart = (mean - kept) ** 2 / (spread + layer.eps)
    return (0.5 * (ratio - 1 - ratio.log() + apart)).log1p().mean(1)


def _alive(layer: _BatchNorm) -> Tensor:
    """Mask of channels with a variance above 0: dead ones carry no information."""
    assert layer.running_var is not None
    return layer.running_var > 1e-8
