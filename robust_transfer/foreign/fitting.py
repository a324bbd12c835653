"""Weights of a file under our names, loaded into their network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from robust_transfer.classifier import Classifier, Features, NetworkSpec
from robust_transfer.errors import CheckpointError
from robust_transfer.foreign.by_name import BY_NAME, ByName
from robust_transfer.foreign.families import FAMILIES
from robust_transfer.foreign.finding import CHANNELS, Found
from robust_transfer.foreign.layout import BGR, COUNTER, RGB, Layout
from robust_transfer.undrawn import undrawn


def renamed(found: Found, spec: NetworkSpec, what: Mapping[str, str]) -> dict[str, Tensor]:
    """State with our names: the last linear layer is the ``head``, all else the ``body``. It reads RGB."""
    kind, state = found.architecture, found.layout.state
    family = ByName() if found.family == BY_NAME else FAMILIES.get(found.family)()
    ours = {f"body.{name}": tensor for name, tensor in family.body(state, kind, spec.settings).items()}
    if what.get(CHANNELS, found.layout.channels[0]) == BGR:
        ours |= _turned(ours)
    layer = family.head(state, kind, spec.settings)
    return ours if layer is None else {**ours, "head.weight": layer[0], "head.bias": layer[1]}


def _turned(body: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """First layer's weight with its channels in the opposite order."""
    first = {name: weight.flip(1) for name, weight in body.items() if weight.dim() == 4 and weight.shape[1] == 3}
    if len(first) != 1:
        raise CheckpointError(
            f"{len(first)} layers read three channels, so the one that reads the image is not told: give {CHANNELS}={RGB}, "
            "or store weights that read RGB"
        )
    return first


def with_channels_said(layout: Layout, what: Mapping[str, str]) -> Layout:
    """Layout with the channel order: whether the first layer was converted from BGR to RGB."""
    if what.get(CHANNELS, layout.channels[0]) == RGB:
        return layout
    note = "it was made for images in BGR: the channels of its first layer are turned, and it reads RGB"
    return replace(layout, notes=(*layout.notes, note))


def built(spec: NetworkSpec, weights: Mapping[str, Tensor]) -> Classifier:
    """Classifier with exactly these weights; only batch counters, which no result depends on, may be missing."""
    with undrawn():
        classifier = Classifier.build(spec)
    wanted = classifier.state_dict()
    state = dict(weights)
    for name, tensor in wanted.items():
        if name not in state and (
            name.endswith(COUNTER) or (name.startswith("head.") and "head.weight" not in weights)
        ):
            state[name] = torch.zeros_like(tensor)
    for name in sorted({*wanted, *state}):
        shown = name.partition(".")[2]
        if name not in state or name not in wanted:
            where = "lacks" if name not in state else "has an extra"
            raise CheckpointError(f"the weights are of another network: the file {where} {shown!r} for a {spec.name!r}")
        if state[name].shape != wanted[name].shape:
            raise CheckpointError(
                f"the weights are of another network: {shown!r} is {tuple(state[name].shape)}, a {spec.name!r} has "
                f"{tuple(wanted[name].shape)}"
            )
    classifier.load_state_dict(state, strict=True)
    return classifier.eval()


def features(spec: NetworkSpec, weights: Mapping[str, Tensor]) -> nn.Module:
    """Features of a feature extractor: its head is 0, and would make all readings of a file alike."""
    return Features(built(spec, weights)).eval()
