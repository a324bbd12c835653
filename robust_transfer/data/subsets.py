"""Stratified samples by seed, and the division of shots."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from robust_transfer import randomness
from robust_transfer.errors import DataError

SHOTS_VAL = 0.2  # of the shots, from FEWEST_SHOTS on
FEWEST_SHOTS = 5


def shuffled_classes(labels: Tensor, classes: int, *, seed: int, purpose: str) -> list[Tensor]:
    """Indices of each class's images, int64, in an order of its own that depends on the seed, class and count."""
    shuffled = []
    for label in range(classes):
        members = torch.nonzero(labels == label)[:, 0]
        address = randomness.Address(seed=seed, purpose=f"{purpose}/{label}")
        shuffled.append(members[randomness.permutation(address, len(members))])
    return shuffled


def stratified(labels: Tensor, classes: int, size: int, *, seed: int, purpose: str) -> Tensor:
    """``size`` indices, sorted, in proportion to the classes (largest remainders); all of them if there are fewer."""
    if size >= len(labels):
        return torch.arange(len(labels))
    members = shuffled_classes(labels, classes, seed=seed, purpose=purpose)
    shares = _in_proportion([len(images) for images in members], size)
    return torch.cat([images[:share] for images, share in zip(members, shares, strict=True)]).sort().values


def _in_proportion(counts: list[int], size: int) -> list[int]:
    """``size`` divided in proportion to ``counts`` (largest remainders)."""
    exact = [size * count / sum(counts) for count in counts]
    shares = [math.floor(share) for share in exact]
    by_remainder = sorted(range(len(counts)), key=lambda i: shares[i] - exact[i])
    for i in by_remainder[: size - sum(shares)]:
        shares[i] += 1
    return shares


def take_shots(
    members: list[Tensor], names: tuple[str, ...], shots: int, fraction: float | None
) -> tuple[Tensor, Tensor]:
    """``(train, val)``, sorted: the first ``shots`` images of each class, ``fraction`` of them val (None: the default).

    Nested: more shots of the same seed contain fewer, and so do train and val each (from :data:`FEWEST_SHOTS` on).
    """
    for images, name in zip(members, names, strict=True):
        if len(images) < shots:
            have = f"{len(images)} different image{'s' if len(images) > 1 else ''}"
            raise DataError(f"the class {name!r} has {have} in train, fewer than shots={shots}: ask for fewer")
    if fraction is None:
        fraction = SHOTS_VAL if shots >= FEWEST_SHOTS else 0.0
    # an image is val where the rounded number of val images grows with it: whichever that is stays val with more shots
    is_val = torch.from_numpy(np.diff(np.floor(fraction * np.arange(shots + 1) + 0.5)) > 0)
    if fraction > 0 and not is_val.any():
        is_val[-1] = True
    if is_val.all():
        raise DataError(f"shots={shots} leaves no image a class to train on beside val: ask for more, or give val=0")
    train = torch.cat([images[:shots][~is_val] for images in members])
    val = torch.cat([images[:shots][is_val] for images in members])
    return train.sort().values, val.sort().values
