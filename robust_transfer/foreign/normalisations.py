"""Normalisations by their usual names."""

from __future__ import annotations

from robust_transfer.errors import ConfigError
from robust_transfer.foreign.families import normalisations as known
from robust_transfer.preprocessing import CIFAR10, Normalisation
from robust_transfer.registry import unknown

NORMALISATIONS: dict[str, Normalisation] = {
    "none": known.RAW,
    "half": known.HALF,
    "per-image": known.PER_IMAGE,
    "per-image-tensorflow": Normalisation(per_image=True),
    "cifar10": known.CIFAR10_2471,
    "cifar10-2470": CIFAR10,
    "cifar10-2023": known.CIFAR10_2023,
    "cifar100": known.CIFAR100,
    "cifar100-2675": known.CIFAR100_2675,
    "svhn": known.SVHN,
    "tiny-imagenet": known.TINY_IMAGENET,
    "imagenet": known.IMAGENET,
    "caffe": known.CAFFE,
    "clip": Normalisation(mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711)),
}


def parse_normalisation(text: str) -> Normalisation:
    """``imagenet``, ``none``, ..., or ``0.485,0.456,0.406/0.229,0.224,0.225``: means and deviations of pixels in [0, 1]."""
    if text in NORMALISATIONS:
        return NORMALISATIONS[text]
    mean, slash, std = text.partition("/")
    if not slash:
        raise ConfigError(f"{unknown('normalisation', text, list(NORMALISATIONS))}; or give means/deviations")
    try:
        values = [tuple(float(part) for part in side.split(",")) for side in (mean, std)]
    except ValueError:
        raise ConfigError(
            f"cannot read the normalisation {text!r}: write 0.485,0.456,0.406/0.229,0.224,0.225"
        ) from None
    return Normalisation(mean=values[0], std=values[1])


def name_of(normalisation: Normalisation) -> str:
    """Name, or else the numbers, in the format of :func:`parse_normalisation`."""
    for name, named in NORMALISATIONS.items():
        if _near(named, normalisation):
            return name
    return "/".join(",".join(f"{v:g}" for v in side) for side in (normalisation.mean, normalisation.std))


def _near(a: Normalisation, b: Normalisation) -> bool:
    if a.per_image or b.per_image:
        return (a.per_image, a.unbiased) == (b.per_image, b.unbiased)
    pairs = [*zip(a.mean, b.mean, strict=False), *zip(a.std, b.std, strict=False)]
    return len(a.mean) == len(b.mean) and all(abs(x - y) < 1e-5 for x, y in pairs)
