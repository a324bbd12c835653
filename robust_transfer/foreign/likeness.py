"""Check of images against training images by brightness and contrast: when no normaliser can be inferred.

A network trained with deviations of .25 matches images of four fifths of their contrast best when it is read with
deviations of .20: the statistics cannot tell a wrong normaliser from other images. If a rival is right, the training
images had the moments that its inverse gives after the chosen normaliser. If those are moments of the field's data
sets and these images' own are not, the rival is the better explanation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from robust_transfer.errors import ConfigError
from robust_transfer.foreign.families import normalisations as known
from robust_transfer.foreign.normalisations import parse_normalisation
from robust_transfer.preprocessing import Normalisation

# Means and deviations of pixels: those that the field publishes, and those measured on all pixels of Tiny ImageNet.
DATA_SETS = (
    known.CIFAR10_2471, known.CIFAR100, known.SVHN, known.IMAGENET,
    Normalisation(mean=known.TINY_IMAGENET.mean, std=(0.2770, 0.2691, 0.2821)),
)  # fmt: skip
NEAR = 0.01  # divergence from a data set below which images are like its own; a tenth more contrast has as much
CHANCE = 0.4  # that divided by their number is what a sample of images adds


def unlike_any(images: Tensor, chosen: Mapping[str, str], rivals: Sequence[Mapping[str, str]]) -> str | None:
    """Reason why a normaliser cannot be inferred from ``images`` ``(n, 3, H, W)`` in [0, 1], a clause.

    None where it can: the images have the moments of a data set of the field, or no rival explains the difference
    better. ``chosen`` and ``rivals`` are readings by their settings, with ``normalisation``.
    """
    mean, std = images.double().mean((0, 2, 3)), images.double().std((0, 2, 3), correction=0)
    own, how = _apart(mean, std), _normaliser(chosen)
    if own <= NEAR + CHANCE / len(images) or how is None:
        return None
    for rival in rivals:
        other = _normaliser(rival)
        if other is None or _but_normalisation(rival) != _but_normalisation(chosen):
            continue
        scale = other[1] / how[1]
        if _apart(other[0] + (mean - how[0]) * scale, std * scale) < own:
            return (
                f"the images' contrast or brightness is none of the known data sets', and normalisation "
                f"{rival['normalisation']} explains it as well as {chosen['normalisation']}"
            )
    return None


def _apart(mean: Tensor, std: Tensor) -> float:
    """Divergence of pixel moments from the nearest data set's, averaged over channels."""
    return min(_divergence(mean, std, each) for each in DATA_SETS)


def _divergence(mean: Tensor, std: Tensor, of: Normalisation) -> float:
    theirs, spread = torch.tensor(of.mean).double(), torch.tensor(of.std).double()
    ratio = ((std + 1e-6) / spread) ** 2
    return float((0.5 * (ratio - 1 - ratio.log() + ((mean - theirs) / spread) ** 2)).mean())


def _normaliser(reading: Mapping[str, str]) -> tuple[Tensor, Tensor] | None:
    try:
        how = parse_normalisation(reading["normalisation"])
    except (KeyError, ConfigError):
        return None
    return None if how.per_image else (torch.tensor(how.mean).double(), torch.tensor(how.std).double())


def _but_normalisation(reading: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in reading.items() if key != "normalisation"}
