"""Accuracy under common corruptions, without an attack: of the evaluated images, as the network reads them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robust_transfer.attacks.victim import attacking, predicted
from robust_transfer.cache import load_or_compute
from robust_transfer.config import digest
from robust_transfer.corruptions import NAMES, SEVERITIES, corrupted, versions
from robust_transfer.data.split import to_pixels
from robust_transfer.evaluation.resolve import Subject
from robust_transfer.modes import on_device
from robust_transfer.progress import stage
from robust_transfer.run import Run
from robust_transfer.statistics.intervals import Proportion, of_same_images, wilson

BATCH = 64  # images that are corrupted at a time
EACH = len(NAMES) * len(SEVERITIES)  # corrupted versions of an image
CAUTIONS = (
    "no mCE: that divides by AlexNet's errors on the corrupted ImageNet, which exist for its 1,000 classes alone",
    "severities are ImageNet-C's at every size: CIFAR-10-C has milder ones, so figures are not comparable with its",
)


@dataclass(frozen=True)
class Kind:
    """Accuracy under one corruption: their ``mean``, and that at each severity, the mildest first."""

    mean: Proportion
    severities: list[Proportion]


@dataclass(frozen=True)
class Corrupted:
    """Accuracy of the ``n`` evaluated images under each corruption, by its name.

    Each image is corrupted at the ``size`` that the network reads, after resizing. ``accuracy``: the mean over corruptions
    and severities (mCA). Its interval, and those of ``Kind.mean``, are over the images
    (:func:`~robust_transfer.statistics.intervals.of_same_images`). ``versions`` are those of the packages that made them.
    """

    n: int
    size: int
    seed: int
    accuracy: Proportion
    kinds: dict[str, Kind]
    passes: int
    seconds: float
    versions: dict[str, str]

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Corrupted:
        """From the plain types of JSON, in which shares are :class:`Proportion` already."""
        return cls(**{**stored, "kinds": {name: Kind(**kind) for name, kind in stored["kinds"].items()}})

    @property
    def what(self) -> str:
        """Corruptions and images of the mean, in words."""
        return (
            f"mean of {len(self.kinds)} corruptions at {len(SEVERITIES)} severities, of the same {self.n} images "
            f"of {self.size} x {self.size} pixels, not attacked"
        )

    def lines(self) -> list[str]:
        """Lines of text, in the form of an evaluation's: intervals of means only, the record has the others."""
        head = "".join(f"{severity:>6}" for severity in SEVERITIES)
        return [
            f"corrupted        {self.accuracy}  ({self.what})",
            f"  {'in %, severity':<18}{head}  mean",
            *(
                f"  {spoken(name):<18}{''.join(f'{100 * share.value:>6.1f}' for share in kind.severities)}  {kind.mean}"
                for name, kind in self.kinds.items()
            ),
            *(f"                 {caution}" for caution in CAUTIONS),
            f"                 cost: {self.passes:,} image passes in {self.seconds:,.1f} s",
        ]


def spoken(name: str) -> str:
    """Corruption's name in words."""
    return name.replace("_", " ").replace("jpeg", "JPEG")


def corrupt_split(subject: Subject, run: Run, *, seed: int) -> Corrupted:
    """Accuracy of the subject's network on its images under every corruption at every severity.

    Images are taken in blocks and each block through all corruptions: some take a hundred times as long as others, and the
    time left is then known from the first block on. With ``run.cache`` they are made once for all networks of the same size.
    """
    split, module, device, begun = subject.split, subject.module, run.torch_device(), time.perf_counter()
    right = torch.zeros(len(NAMES), len(SEVERITIES), dtype=torch.int64)
    n = len(split)
    with (
        on_device(module, device),
        attacking(module, device, size=split.size) as target,
        stage("corruptions", n, run.quiet, each=EACH) as bar,
    ):
        for rows in torch.split(torch.arange(n), BATCH):
            images, labels, ids = split.fetch(rows), split.labels[rows], split.ids[rows]
            bar.begin(len(rows))
            for kind, name in enumerate(NAMES):
                for place, made in enumerate(_severities(images, ids, name, seed, run.cache)):
                    x = to_pixels(made, device)
                    right[kind, place] += (predicted(target.logits(x)).cpu() == labels).sum()
            bar.advance(len(rows))
    kinds = {
        name: _kind([wilson(int(count), n) for count in counts]) for name, counts in zip(NAMES, right, strict=True)
    }
    return Corrupted(
        n=n,
        size=int(images.shape[-1]),
        seed=seed,
        accuracy=of_same_images([share for kind in kinds.values() for share in kind.severities]),
        kinds=kinds,
        passes=target.passes,
        seconds=round(time.perf_counter() - begun, 3),
        versions=versions(),
    )


def _severities(images: Tensor, ids: Tensor, name: str, seed: int, cache: Path | None) -> Tensor:
    """Images ``(B, 3, H, H)`` under one corruption at each severity: ``(S, B, 3, H, H)``."""

    def make() -> dict[str, Tensor]:
        return {"images": torch.stack([corrupted(images, ids, name, each, seed=seed) for each in SEVERITIES])}

    key = ""
    if cache is not None:
        content = hashlib.sha256(images.numpy().tobytes() + ids.numpy().tobytes()).hexdigest()
        key = digest(name, seed, versions(), list(images.shape), content)
    return load_or_compute(cache, "corrupted", key, make)["images"]


def _kind(severities: Sequence[Proportion]) -> Kind:
    return Kind(of_same_images(severities), list(severities))
