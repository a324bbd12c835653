"""Networks of a given name: weights that the file names otherwise are matched to the network's own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from robust_transfer import networks
from robust_transfer.errors import CheckpointError, NetworkError
from robust_transfer.foreign.families import Architecture, Family, recognised
from robust_transfer.foreign.families.base import State
from robust_transfer.foreign.families.normalisations import CIFAR10_2471, CIFAR100, HALF, IMAGENET, RAW
from robust_transfer.foreign.layout import COUNTER, Layout
from robust_transfer.networks import from_torchvision
from robust_transfer.preprocessing import Preprocessing

if TYPE_CHECKING:
    from robust_transfer.foreign.hints import Hints

BY_NAME = "given by name"
PHOTOS = 64  # pixels: from there on networks are trained on photos, and not with CIFAR's means
Layers = dict[str, tuple[tuple[str, tuple[int, ...]], ...]]  # kinds and shapes of each layer's tensors


class ByName(Family):
    """Networks of a given name, with plain heads."""

    def recognise(self, state: State) -> Architecture | None:
        """Always None: nothing is recognised without a name."""
        return None


def named(layout: Layout, hints: Hints) -> tuple[str, Architecture, Layout]:
    """Architecture of a network of a given name, and the layout under the network's own names.

    Where the file names its weights otherwise, they are matched (:func:`paired`), which is noted; labelled images can
    prove the match. Raises :class:`CheckpointError` where the match is ambiguous.
    """
    assert hints.network is not None
    name, state = networks.canonical(hints.network), layout.state
    known = recognised(state)
    if known is not None and known[1].network == name:
        return *known, layout
    heads = [
        key.removesuffix(".weight") for key, value in state.items() if key.endswith(".weight") and value.dim() == 2
    ]
    classes = len(state[f"{heads[-1]}.weight"]) if heads else 0
    own, head = own_names(name, classes, hints)
    if state.keys() != own.keys() and (pairs := paired(state, own)) is not None:
        places, how = pairs
        state = {ours: state[theirs] for ours, theirs in places.items()}
        first = ", ".join(f"{theirs} is {ours}" for ours, theirs in list(places.items())[:2])
        note = f"names are not {name}'s: matched by {how}, all {len(own)} kinds and shapes agree ({first} ...)"
        layout = replace(layout, state=state, notes=(*layout.notes, note))
        known = recognised(state)
        if known is not None and known[1].network == name:
            return known[0], replace(known[1], preprocessings=likely(name, hints)), layout
    head = head if f"{head}.weight" in state else (heads[-1] if heads else "")
    settings = dict(hints.settings or {})
    return BY_NAME, Architecture(name, classes, head, settings=settings, preprocessings=likely(name, hints)), layout


def likely(name: str, hints: Hints) -> tuple[Preprocessing, ...]:
    """Preprocessings for a network of this name, the likeliest first: its library's, then usual ones."""
    if name in networks.available():
        stated = Preprocessing(size=hints.size or 32, normalisation=networks.normalisation(name))
    elif name.startswith(from_torchvision.PREFIX):
        stated = from_torchvision.preprocessing(name)
    else:
        config = networks.add_to_timm().get_pretrained_cfg(name)
        stated = (
            Preprocessing.from_timm(vars(config))
            if config is not None
            else Preprocessing(size=hints.size or 224, normalisation=IMAGENET)
        )
    usual = [IMAGENET, HALF, RAW, *([] if (hints.size or stated.size) >= PHOTOS else [CIFAR10_2471, CIFAR100])]
    return tuple(replace(stated, normalisation=each) for each in dict.fromkeys([stated.normalisation, *usual]))


def own_names(name: str, classes: int, hints: Hints) -> tuple[dict[str, Tensor], str]:
    """Weights of a network in its own order, without memory; and the prefix of its last layer."""
    settings, size = hints.settings or {}, hints.size or 224
    try:
        with torch.device("meta"):
            if name.startswith(from_torchvision.PREFIX):
                made: Any = from_torchvision.whole(name, size, classes or None, **settings)
                head = from_torchvision.head_of(made)
            else:
                made = networks.create(name, num_classes=classes, input_size=size, **settings)
                head = str((getattr(made, "default_cfg", None) or {}).get("classifier") or "")
    except NetworkError as error:
        raise CheckpointError(str(error)) from None
    return {key: value for key, value in made.state_dict().items() if not key.endswith(COUNTER)}, head


# ---------------------------------------------------------------- matching


def paired(theirs: State, ours: State) -> tuple[dict[str, str], str] | None:
    """Mapping from names in ``ours`` to names in ``theirs``, and the criterion; None where shapes or kinds differ.

    Layers are matched as wholes. Layers of equal kinds and shapes are matched by their order in the file, if the file
    lists all layers in the network's order; else by the numbers in their names, and names that differ in more than
    numbers by the count of each. A file sorted by name, as safetensors files are, has no meaningful order. Raises
    :class:`CheckpointError` for layers that remain ambiguous.
    """
    given, own = _layers(theirs), _layers(ours)
    groups, wanted = _grouped(given), _grouped(own)
    if {kinds: len(names) for kinds, names in groups.items()} != {kinds: len(names) for kinds, names in wanted.items()}:
        return None
    ordered = list(given.values()) == list(own.values()) and list(theirs) != sorted(theirs)
    if ordered and all(_ascending(names) for names in groups.values()):
        how, pairs = "order", list(zip(own, given, strict=True))
    else:
        how = "shapes, and by the numbers in their names, as the file has an order of its own"
        pairs = [pair for kinds, names in wanted.items() for pair in _by_numbers(names, groups[kinds])]
    layers = dict(pairs)
    return {key: _joined(layers[layer], kind) for key in ours for layer, _, kind in [_parted(key)]}, how


def _layers(state: State) -> Layers:
    found: dict[str, list[tuple[str, tuple[int, ...]]]] = {}
    for key, value in state.items():
        layer, _, kind = _parted(key)
        found.setdefault(layer, []).append((kind, tuple(value.shape)))
    return {layer: tuple(sorted(kinds)) for layer, kinds in found.items()}


def _grouped(layers: Layers) -> dict[tuple[Any, ...], list[str]]:
    groups: dict[tuple[Any, ...], list[str]] = {}
    for name, kinds in layers.items():
        groups.setdefault(kinds, []).append(name)
    return groups


def _parted(key: str) -> tuple[str, str, str]:
    return key.rpartition(".")


def _joined(layer: str, kind: str) -> str:
    return f"{layer}.{kind}" if layer else kind


def _by_numbers(ours: list[str], theirs: list[str]) -> Iterator[tuple[str, str]]:
    mine, other = _series(ours), _series(theirs)
    if len(set(map(len, other))) < len(other) or list(map(len, mine)) != list(map(len, other)):
        one = other[0][0]
        two = next((some[0] for some in other[1:]), other[0][-1])
        raise CheckpointError(
            f"the file's layers are not in the network's order, and {one!r} and {two!r} have the same shapes: which is "
            "which cannot be told, so store the weights under the network's own names"
        )
    for some, others in zip(mine, other, strict=True):
        yield from zip(some, others, strict=True)


def _series(names: list[str]) -> list[list[str]]:
    """Groups of names that differ in numbers only, sorted by these; the shortest group first."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(re.sub(r"\d+", "#", name), []).append(name)
    return sorted((sorted(some, key=_numbers) for some in found.values()), key=len)


def _ascending(names: list[str]) -> bool:
    return all([name for name in names if name in set(some)] == some for some in _series(names))


def _numbers(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]
