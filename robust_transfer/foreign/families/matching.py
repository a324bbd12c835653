"""Networks of timm and torchvision with exactly the names and shapes of a state: by the index, then by building one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor

from robust_transfer import networks
from robust_transfer.errors import NetworkError
from robust_transfer.foreign.families.base import State
from robust_transfer.foreign.families.normalisations import HALF, IMAGENET, RAW
from robust_transfer.foreign.families.signatures import COUNTER, Indexed, heads, is_position, signature
from robust_transfer.foreign.families.weightless import weightless
from robust_transfer.preprocessing import Interpolation, Normalisation, Preprocessing

PHOTOS = 100  # pixels: larger ones are cut from photos; sets of images up to 96 (CIFAR, Tiny ImageNet, STL-10) are read whole


def matches(state: State, entries: Iterable[Indexed]) -> list[Indexed]:
    """Entries of the index with the names and shapes of a state, except for its head."""
    entries = list(entries)
    wanted = {
        (signature(state, head), head)
        for head in (*heads(entries), "")
        if head == "" or (f"{head}.weight" in state and _is_linear(state[f"{head}.weight"]))
    }
    headless = {found for found, head in wanted if head == ""}
    return [entry for entry in entries if (entry.signature, entry.head) in wanted or entry.signature in headless]


def otherwise(found: list[Indexed], network: str) -> tuple[str, ...]:
    """Networks in ``found`` that compute something else than ``network``, one of each kind, in their order."""
    own = [entry.arithmetic for entry in found if entry.name == network]
    kinds = dict[str, str]()
    for entry in found:
        if own and entry.arithmetic not in own:
            kinds.setdefault(entry.arithmetic, entry.name)
    return tuple(kinds.values())


def on_others(names: tuple[str, ...]) -> tuple[str, ...]:
    """Sentence on networks that compute something else; empty without any."""
    if not names:
        return ()
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return (f"{listed} would fit as well, and compute otherwise: name the network where it is one of them",)


def _is_linear(weight: Tensor) -> bool:
    """True if a weight is a linear layer's, or a 1x1 convolution's."""
    return weight.dim() == 2 or (weight.dim() == 4 and weight.shape[2:] == (1, 1))


def head_in(state: State, head: str) -> str:
    """Name of the head in a state, or ""."""
    return head if f"{head}.weight" in state else ""


def fits(state: State, network: str, head: str, size: int, settings: Mapping[str, Any]) -> bool:
    """True if the network, built for images of ``size``, has exactly the names and shapes of a state; counters may be missing.

    The head may have a weight and a bias only: further tensors (a scale, norms of rows) mean another computation.
    """
    try:
        body = on_meta(network, size, settings)
    except NetworkError:
        return False
    expected = {key: tuple(value.shape) for key, value in body.items() if not key.endswith(COUNTER)}
    return expected == {
        key: tuple(value.shape)
        for key, value in state.items()
        if not key.endswith(COUNTER) and not (head and key in (f"{head}.weight", f"{head}.bias"))
    }


def on_meta(network: str, size: int, settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """State of a network without memory, for comparison."""
    make = partial(networks.create, network, num_classes=0, input_size=size, **settings)
    return dict(weightless(make).state_dict())


def sizes(state: State, usual: int) -> Iterator[int]:
    """Image sides, in pixels, that fit a state's position embeddings; the ``usual`` one if it has none.

    Positions ``(1, N, d)`` are those of a square of patches, and of up to five tokens that belong to none.
    """
    tables = [value for key, value in state.items() if is_position(key) and value.dim() >= 2]
    patches = [
        int(value.shape[-1])
        for key, value in state.items()
        if value.dim() == 4 and value.shape[1] == 3 and key.endswith("weight") and value.shape[2] > 7
    ]
    if not tables or not patches:
        yield usual
        return
    count = int(tables[0].shape[-2])
    for extra in range(6):
        if (side := math.isqrt(count - extra)) ** 2 == count - extra and side:
            yield side * patches[0]


def imagenet(
    size: int, *, first: Normalisation = IMAGENET, interpolation: Interpolation = "bicubic"
) -> tuple[Preprocessing, ...]:
    """Preprocessings of networks for photos: ImageNet's mean and deviation, none, or 0.5; ``first`` comes first.

    From :data:`PHOTOS` pixels on, the shorter side becomes 8/7 of the size (256 for 224), and the centre is taken, as
    accuracies are published; smaller images are read whole.
    """
    rest = [each for each in (IMAGENET, RAW, HALF) if each != first]
    how = Preprocessing(size=size, interpolation=interpolation)
    if size >= PHOTOS:
        how = replace(how, resize="crop", short=size * 256 // 224)
    return tuple(replace(how, normalisation=each) for each in (first, *rest))


def classes_of(state: State, head: str) -> tuple[int, str]:
    """Number of classes, and a sentence on it."""
    if not head:
        return 0, "no classes: there is no last linear layer, so this is a feature extractor"
    classes = int(state[f"{head}.weight"].shape[0])
    return classes, f"{classes} classes: {head}.weight has as many rows"


__all__ = ["classes_of", "fits", "head_in", "imagenet", "matches", "on_meta", "on_others", "otherwise", "sizes"]
