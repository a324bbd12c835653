"""Import of other people's checkpoints: from a file to a classifier with a card that tells how it was read."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robust_transfer.checkpoint import HEAD, Card, Checkpoint
from robust_transfer.classifier import Classifier, Features, NetworkSpec
from robust_transfer.config import as_dict, config
from robust_transfer.data import Split, to_pixels
from robust_transfer.environment import command_line, environment
from robust_transfer.errors import CheckpointError, ConfigError
from robust_transfer.foreign.by_name import BY_NAME, ByName, named, own_names
from robust_transfer.foreign.classes import class_names, labels_in, nameless
from robust_transfer.foreign.contents import Contents
from robust_transfer.foreign.evidence import IMAGES, ChanceError, Decision, UndecidedError, decide
from robust_transfer.foreign.families import FAMILIES, Architecture, recognised
from robust_transfer.foreign.families.matching import PHOTOS
from robust_transfer.foreign.families.normalisations import CAFFE
from robust_transfer.foreign.layout import BGR, COUNTER, RGB, Layout, lay_out, peeled
from robust_transfer.foreign.measuring import Candidate
from robust_transfer.foreign.normalisations import name_of
from robust_transfer.foreign.published import Published
from robust_transfer.foreign.reading import read_weights
from robust_transfer.preprocessing import Normalisation, Preprocessing
from robust_transfer.threat import Threat
from robust_transfer.undrawn import undrawn

METHOD = "import"
CHANNELS = "channels"


@config
class Hints:
    """What no file may tell, given by somebody who knows; None: to be found out.

    ``network``: its name, with ``settings``; among them ``channels``, the order in which it reads an image's, "rgb" or
    "bgr". ``size``: side of the images in pixels. ``weights``: which of the sets of weights in the file ("best").
    ``threat``: what the network was trained for; ``threat_from``: who says so, where it is not the one who gives it.
    """

    network: str | None = None
    settings: dict[str, Any] | None = None
    normalisation: Normalisation | None = None
    size: int | None = None
    threat: Threat | None = None
    threat_from: str | None = None
    weights: str | None = None
    class_names: tuple[str, ...] | None = None


@dataclass(frozen=True, eq=False)
class Found:
    """What a file is, before anything that it does not tell is decided.

    ``published``: what its library says of it; ``zoo``: what a zoo's table says, for the card.
    """

    address: str
    contents: Contents
    layout: Layout
    family: str
    architecture: Architecture
    hints: Hints
    published: Published | None = None
    zoo: Mapping[str, Any] = field(default_factory=dict)

    def candidates(self) -> list[tuple[dict[str, str], NetworkSpec]]:
        """Readings of the file that are possible, the likeliest first, with what tells them apart."""
        kind, hints = self.architecture, self.hints
        given = hints.settings or {}
        if given:  # a setting that the network does not have is told before anything is tried
            own_names(kind.network, 0, replace(hints, settings={**kind.settings, **given}))  # all build without a head
        open_ = {name: values for name, values in kind.variants.items() if name not in given}
        found: list[tuple[dict[str, str], NetworkSpec]] = []
        for chosen in itertools.product(*open_.values()):
            settings = {**kind.settings, **dict(zip(open_, chosen, strict=True)), **given}
            for how, channels in self._inputs():
                what = {name: str(value) for name, value in zip(open_, chosen, strict=True)}
                what["normalisation"] = name_of(how.normalisation)
                if len(self.layout.channels) > 1:
                    what[CHANNELS] = channels
                spec = NetworkSpec(
                    name=kind.network, num_classes=max(kind.num_classes, 2), preprocessing=how, settings=settings
                )
                found.append((what, spec))
        return found

    def _inputs(self) -> list[tuple[Preprocessing, str]]:
        """Preprocessings with orders of the channels; where several are possible, BGR goes with Caffe's means only."""
        channels, stated = self.layout.channels, self.hints.normalisation or self.layout.normalisation
        return [
            (how, order)
            for how in self._preprocessings()
            for order in channels
            if order == RGB or len(channels) == 1 or stated is not None or how.normalisation == CAFFE
        ]

    def _preprocessings(self) -> list[Preprocessing]:
        known = list(self.architecture.preprocessings)
        if self.hints.size is not None:
            known = [_resized(how, self.hints.size) for how in known]
        if BGR in self.layout.channels and known:
            known.append(replace(known[0], normalisation=CAFFE))
        stored = self.hints.normalisation or self.layout.normalisation
        if stored is not None:
            known = [replace(how, normalisation=stored) for how in known]
        unique: list[Preprocessing] = []
        for how in known:
            if how not in unique:
                unique.append(how)
        return unique


def _resized(how: Preprocessing, size: int) -> Preprocessing:
    """The same for images of another size: of the shorter side, the same share is cropped; small images are read whole."""
    if size < PHOTOS:
        return replace(how, size=size, resize="squash", short=None)
    return replace(how, size=size, short=None if how.short is None else how.short * size // how.size)


def find(path: Path, *, hints: Hints | None = None, address: str | None = None) -> Found:
    """Network that a file of weights holds. Raises :class:`CheckpointError` for what is none, or none that is known."""
    hints = hints or Hints()
    contents = read_weights(path)
    try:
        layout = lay_out(contents, hints.weights)
        hints, layout = _told_channels(hints, layout)
        if hints.network is not None:
            family, architecture, layout = named(layout, hints)
            return Found(address or str(path), contents, layout, family, architecture, hints)
        found, inner, first = recognised(layout.state), peeled(layout), layout
        while found is None and inner is not None:
            found, layout, inner = recognised(inner.state), inner, peeled(inner)
    except CheckpointError as error:
        raise CheckpointError(f"{address or path}: {error}") from None
    if found is None:
        keys = ", ".join(key[:100] for key in list(first.state)[:4])
        raise CheckpointError(
            f"{address or path} is of no family that is known ({', '.join(FAMILIES.names())}): its weights are called "
            f"{keys} ...; give the network's name"
        )
    return Found(address or str(path), contents, layout, *found, hints)


def _told_channels(hints: Hints, layout: Layout) -> tuple[Hints, Layout]:
    """Hints without the order of the channels, which is no setting of any network, and the layout with it."""
    settings = dict(hints.settings or {})
    if (said := settings.pop(CHANNELS, None)) is None:
        return hints, layout
    if said not in (RGB, BGR):
        raise ConfigError(f"{CHANNELS} are {RGB} or {BGR}, not {said!r}")
    return replace(hints, settings=settings or None), replace(layout, channels=(said,))


def bring_in(found: Found, images: Split | None = None, *, sha256: str = "", revision: str = "") -> Checkpoint:
    """Checkpoint of what was found; ``images`` to decide by what the file does not tell.

    They count as labelled where the network has as many classes as they have. Raises :class:`CheckpointError` where the
    weights do not fit, and where there is no evidence or it is weak.
    """
    readings = found.candidates()
    make = _features if _headless(found) else _built
    tried = [Candidate(what, partial(make, spec, _renamed(found, spec, what))) for what, spec in readings]
    chosen, decision = _decided(tried, *_evidence(found, readings, images))
    what, spec = readings[tried.index(chosen)]
    classifier = _built(spec, _renamed(found, spec, what))
    found.contents.release()
    found = replace(found, layout=_with_channels_said(found.layout, what))
    names = class_names(found.hints.class_names, spec.num_classes, found.address)
    origin = record(found, decision, sha256, revision)
    if found.published is not None:
        origin["proof"] = found.published.prove(classifier, classes=bool(found.architecture.num_classes))
    card = Card(
        network=spec,
        class_names=names,
        method=METHOD,
        settings={},
        threat=found.hints.threat,
        data={"name": found.address},
        criterion="features only: the file has no head of classes, and this one is 0"
        if _headless(found)
        else "as it was published",
        command=command_line(),
        environment=environment(),
        origin=origin,
    )
    return Checkpoint(classifier.eval(), card)


def record(found: Found, decision: Decision | None, sha256: str = "", revision: str = "") -> dict[str, Any]:
    """What a card says of a file and of how it was read."""
    kind, lay = found.architecture, found.layout
    told: dict[str, Any] = {
        "address": found.address, "sha256": sha256, "revision": revision, "format": found.contents.format,
        "weights": lay.where, "prefix": lay.prefix, "others": lay.others, "family": found.family,
        "inferred": kind.inferred, "alternatives": kind.alternatives, "unused": _unused(found),
        "dropped": lay.dropped, "notes": lay.notes,
        "stated": lay.stated, "refused": found.contents.refused,
        "normalisation": _source_of_normalisation(found), HEAD: "none" if _headless(found) else "",
        "threat": "" if found.hints.threat is None else found.hints.threat_from or "given",
    }  # fmt: skip
    told |= found.zoo
    if found.published is not None:
        said = found.published
        told |= {"published": f"as {said.by} publishes it", "file": said.at, "published_accuracy": said.accuracy}
        told |= {} if found.hints.threat is not None else {"threat": said.threat}
    if decision is not None:
        rows = [
            {**row.what, "accuracy": row.accuracy, "distance": row.distance, "chosen": row.chosen}
            for row in decision.rows
        ]
        told |= {"decided_by": decision.by, "evidence": rows, "evidence_note": decision.note}
    return dict(as_dict({key: value for key, value in told.items() if value not in ("", (), None, {})}))


def _headless(found: Found) -> bool:
    return found.architecture.num_classes == 0


def _source_of_normalisation(found: Found) -> str:
    if found.hints.normalisation is not None:
        return "given"
    if found.published is not None:
        return f"as {found.published.by} publishes it"
    return "stored in the file" if found.layout.normalisation is not None else "of no file: see the evidence"


# ---------------------------------------------------------------- weights


def _renamed(found: Found, spec: NetworkSpec, what: Mapping[str, str]) -> dict[str, Tensor]:
    """State with our names: the last linear layer is the ``head``, all else the ``body``. It reads RGB."""
    kind, state = found.architecture, found.layout.state
    family = ByName() if found.family == BY_NAME else FAMILIES.get(found.family)()
    ours = {f"body.{name}": tensor for name, tensor in family.body(state, kind, spec.settings).items()}
    if what.get(CHANNELS, found.layout.channels[0]) == BGR:
        ours |= _turned(ours)
    layer = family.head(state, kind, spec.settings)
    return ours if layer is None else {**ours, "head.weight": layer[0], "head.bias": layer[1]}


def _turned(body: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Layer that reads an image, with the channels of its weight in the opposite order."""
    first = {name: weight.flip(1) for name, weight in body.items() if weight.dim() == 4 and weight.shape[1] == 3}
    if len(first) != 1:
        raise CheckpointError(
            f"{len(first)} layers read three channels, so the one that reads the image is not told: give {CHANNELS}={RGB}, "
            "or store weights that read RGB"
        )
    return first


def _with_channels_said(layout: Layout, what: Mapping[str, str]) -> Layout:
    if what.get(CHANNELS, layout.channels[0]) == RGB:
        return layout
    note = "it was made for images in BGR: the channels of its first layer are turned, and it reads RGB"
    return replace(layout, notes=(*layout.notes, note))


def _unused(found: Found) -> list[str]:
    """Keys that the forward pass never uses."""
    return [name for name in found.layout.state if name in set(found.architecture.unused)]


def _built(spec: NetworkSpec, weights: Mapping[str, Tensor]) -> Classifier:
    """Classifier with these weights, and no others; strict but for counters of batches, which no result depends on."""
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


def _features(spec: NetworkSpec, weights: Mapping[str, Tensor]) -> nn.Module:
    """What a feature extractor computes: its head is 0, and would make all readings of a file alike."""
    return Features(_built(spec, weights)).eval()


# ---------------------------------------------------------------- images


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels of images in a network's classes, None where there are none; told by names, or guessed."""

    values: Tensor | None
    by_name: bool = True


def _evidence(
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


def _decided(
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
