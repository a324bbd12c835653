"""Heat: drop clearly wrong candidates on a few images before the evidence is gathered on all.

A wide residual network has a dozen candidates and more, and 256 images in two views cost minutes for each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from robust_transfer.foreign.measuring import Candidate, Measured, measure_all

FEW = 32  # images of the heat; with as many again, it would save nothing
OUT = 3.0  # so many times as far from the stored statistics as the nearest: out of the race


def heat(
    candidates: Sequence[Candidate], images: Tensor, labels: Tensor | None
) -> tuple[list[Candidate], list[Measured]]:
    """Remaining candidates, and dropped ones with their measurements on a few images.

    No candidate is dropped for its accuracy, nor without batch norm; the most accurate one is never dropped.
    """
    if len(candidates) < 3 or len(images) <= 2 * FEW:
        return list(candidates), []
    few = torch.linspace(0, len(images) - 1, FEW).round().long()
    measured = measure_all(candidates, images[few], None if labels is None else labels[few], "a first look at readings")
    distances = [each.distance for each in measured if each.distance is not None]
    if len(distances) < len(measured):
        return list(candidates), []
    limit, most = OUT * min(distances), max(each.share for each in measured)
    out = [
        each
        for each, distance in zip(measured, distances, strict=True)
        if distance > limit and (labels is None or each.share < most)
    ]
    gone = {id(each.candidate) for each in out}
    return [each for each in candidates if id(each) not in gone], out
