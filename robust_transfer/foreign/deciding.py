"""Decision between the readings of a file, by images whose labels may be in the network's own classes."""

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
    """Labels of images in a network's classes, None where there are none; told by names, or guessed."""

    values: Tensor | None
    by_name: bool = True


def evidence(
    found: Found, readings: list[tuple[dict[str, str], NetworkSpec]], images: Split | None
) -> tuple[Tensor | None, Labels, str]:
    """Pixels as the network reads them, labels in its own classes where these are known to be the images', else why not."""
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
    """Decision, with a note on labels that do not count. Those by position are a guess, which may be a wrong one."""
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
    """Positions of at most :data:`IMAGES` images, evenly over the split: it may be sorted by class."""
    positions: Tensor = torch.linspace(0, n - 1, min(n, IMAGES)).round().long().unique()
    return positions
