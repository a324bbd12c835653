"""Decision between the readings of a file, on images whose labels may match the network's classes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robust_transfer.classifier import NetworkSpec
from robust_transfer.data import Split, to_pixels
from robust_transfer.foreign.classes import class_names, labels_in, nameless
from robust_transfer.foreign.evidence import IMAGES, ChanceError, Decision, UndecidedError, decide
from robust_transfer.foreign.finding import Found
from robust_transfer.foreign.measuring import Candidate


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels of images in a network's classes, None if unknown; matched by names, or guessed by position."""

    values: Tensor | None
    by_name: bool = True


def evidence(
    found: Found, readings: list[tuple[dict[str, str], NetworkSpec]], images: Split | None
) -> tuple[Tensor | None, Labels, str]:
    """Pixels at the network's input size, and labels in its own classes, or the reason why there are none."""
    if images is None or not len(images):
        return None, Labels(None), ""
    names = class_names(found.hints.class_names, found.architecture.num_classes, found.address)
    where, uncounted = labels_in(names, images.class_names) if found.architecture.num_classes else (None, "")
    some = images.prepared(readings[0][1].preprocessing).subset(_spread(len(images)))
    labels = Labels(None if where is None else torch.tensor(where)[some.labels], by_name=not nameless(names))
    return to_pixels(some.images()), labels, uncounted


def decided(
    tried: list[Candidate], pixels: Tensor | None, labels: Labels, uncounted: str
) -> tuple[Candidate, Decision]:
    """Decision, with a note on unused labels. Labels matched by position are a guess that may be wrong."""
    try:
        chosen, decision = decide(tried, pixels, labels.values)
    except ChanceError as chance:
        if labels.by_name:
            raise
        try:
            chosen, decision = decide(tried, pixels, None)
        except UndecidedError:
            raise chance from None
        uncounted = (
            "clean accuracy does not count: the network's classes have no names, and by their positions it is right on these "
            "images no more often than chance, so they are others, or in another order"
        )
    return chosen, replace(decision, note="; ".join(filter(None, [decision.note, uncounted])))


def _spread(n: int) -> Tensor:
    """Indices of at most :data:`IMAGES` images, evenly over the split, which may be sorted by class."""
    positions: Tensor = torch.linspace(0, n - 1, min(n, IMAGES)).round().long().unique()
    return positions
