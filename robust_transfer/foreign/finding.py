"""Network of a file of weights, and its possible readings."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from robust_transfer.classifier import NetworkSpec
from robust_transfer.errors import CheckpointError, ConfigError
from robust_transfer.foreign.by_name import named, own_names
from robust_transfer.foreign.contents import Contents
from robust_transfer.foreign.families import FAMILIES, Architecture, recognised
from robust_transfer.foreign.families.matching import PHOTOS
from robust_transfer.foreign.families.normalisations import CAFFE
from robust_transfer.foreign.hints import Hints
from robust_transfer.foreign.layout import BGR, RGB, Layout, lay_out, peeled
from robust_transfer.foreign.normalisations import name_of
from robust_transfer.foreign.published import Published
from robust_transfer.foreign.reading import read_weights
from robust_transfer.preprocessing import Preprocessing

CHANNELS = "channels"


@dataclass(frozen=True, eq=False)
class Found:
    """Result of reading a file, before settings that it does not contain are decided.

    ``published``: its library's statement on it; ``zoo``: the entry of a zoo's table, for the card.
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
        """Possible readings of the file, the likeliest first, with the settings that tell them apart."""
        kind, hints = self.architecture, self.hints
        given = hints.settings or {}
        if given:  # unknown settings are refused before anything is tried
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
        """Preprocessings with channel orders; where several are possible, BGR goes with Caffe's means only."""
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
    """Same preprocessing for another image size: the same share of the shorter side is cropped; small images are read whole."""
    if size < PHOTOS:
        return replace(how, size=size, resize="squash", short=None)
    return replace(how, size=size, short=None if how.short is None else how.short * size // how.size)


def find(path: Path, *, hints: Hints | None = None, address: str | None = None) -> Found:
    """Network of a file of weights. Raises :class:`CheckpointError` for anything else, or an unknown network."""
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
    """Hints without the channel order, which is not a network's setting, and the layout with it."""
    settings = dict(hints.settings or {})
    if (said := settings.pop(CHANNELS, None)) is None:
        return hints, layout
    if said not in (RGB, BGR):
        raise ConfigError(f"{CHANNELS} are {RGB} or {BGR}, not {said!r}")
    return replace(hints, settings=settings or None), replace(layout, channels=(said,))
