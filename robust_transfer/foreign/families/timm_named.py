"""Networks as timm names them: ARES 2.0, timm's own files and those of its users on the Hub; older names, too."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

from torch import Tensor

from robust_transfer import networks
from robust_transfer.foreign.families.base import FAMILIES, Architecture, Family, State
from robust_transfer.foreign.families.matching import (
    classes_of,
    fits,
    head_in,
    imagenet,
    matches,
    on_others,
    otherwise,
    sizes,
)
from robust_transfer.foreign.families.signatures import Indexed, arithmetic, index, is_position, signature
from robust_transfer.foreign.families.weightless import weightless
from robust_transfer.networks.from_torchvision import PREFIX
from robust_transfer.preprocessing import Normalisation

# Parts of older names, and the file of timm that knows how to translate them.
OLDER = {
    "layers.0.downsample.": "swin_transformer",
    "relative_position_index": "swin_transformer",
    "downsample_layers.0.0.": "convnext",
    ".norm.1.": "densenet",
}


@FAMILIES.register(
    "timm", summary="networks as timm names them, now or earlier", paper="Liu et al. 2023 (ARES 2.0); Wightman 2019"
)
class TimmFamily(Family):
    """States with the names and shapes of one of timm's networks, whatever the classes.

    Several networks may have them and compute otherwise (another activation, another pooling): the one with the plainest
    name is taken, and the others are its ``alternatives``.
    """

    def recognise(self, state: State) -> Architecture | None:
        """Network by its signature; None where no network of timm has it, under its older names either."""
        return self._current(state) or self._older(state)

    def body(self, state: State, found: Architecture, settings: Mapping[str, Any]) -> State:
        """State of the body, under timm's names of today."""
        if fits(state, found.network, found.head, found.preprocessings[0].size, found.settings):
            return super().body(state, found, settings)
        return super().body(self._translated(state, found.network), found, settings)

    def head(self, state: State, found: Architecture, settings: Mapping[str, Any]) -> tuple[Tensor, Tensor] | None:
        """Last layer, under timm's name of today; some of timm's are convolutions of the one pixel that pooling leaves."""
        if found.head and f"{found.head}.weight" not in state:
            state = self._translated(state, found.network)
        layer = super().head(state, found, settings)
        return None if layer is None else (layer[0].flatten(1), layer[1])

    def _current(self, state: State) -> Architecture | None:
        timm = networks.add_to_timm()
        entries = [entry for entry in (*index(), *_new(state)) if timm.is_model(entry.name)]
        found = sorted(matches(state, entries), key=lambda entry: _plainness(entry, state))
        for entry in found:
            usual = _config(entry.name).input_size[-1]
            head = head_in(state, entry.head)
            for size in sizes(state, usual):
                if fits(state, entry.name, head, size, {}):
                    return _architecture(state, entry, head, size, otherwise(found, entry.name))
        return None

    def _older(self, state: State) -> Architecture | None:
        modules = {module for part, module in OLDER.items() if any(part in key for key in state)}
        if not modules:
            return None
        candidates = [entry for entry in index() if _module_of(entry.name) in modules]
        for entry in sorted(candidates, key=lambda entry: _plainness(entry, state)):
            new = self._translated(state, entry.name)
            if not matches(new, [entry]):
                continue
            found = self._current(new)
            if found is not None:
                kept = {value.data_ptr() for value in new.values()}
                unused = tuple(key for key, value in state.items() if value.data_ptr() not in kept)
                said = f"names of an older timm: translated to those of {found.network} today"
                return replace(found, inferred=(*found.inferred, said), unused=unused)
        return None

    def _translated(self, state: State, network: str) -> dict[str, Tensor]:
        """State under current names, by timm's own translation; empty for a network whose tensors have other sizes."""
        translate = import_module(f"timm.models.{_module_of(network)}")
        rules = getattr(translate, "checkpoint_filter_fn", None) or translate._filter_torchvision_pretrained
        size = _config(network).input_size[-1]
        body = weightless(partial(networks.create, network, num_classes=0, input_size=size))
        given = dict(state)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                new = rules(given) if rules.__code__.co_argcount == 1 else rules(given, body)
        except (KeyError, RuntimeError, AttributeError, ValueError):  # the file is another network's
            return {}
        found = {key: value for key, value in new.items() if isinstance(value, Tensor)}
        stored = {value.untyped_storage().data_ptr() for value in state.values()}
        # timm interpolates tensors of another size: then the file is another network's
        return found if all(value.untyped_storage().data_ptr() in stored for value in found.values()) else {}


def _architecture(state: State, entry: Indexed, head: str, size: int, others: tuple[str, ...]) -> Architecture:
    classes, of_classes = classes_of(state, head)
    config = _config(entry.name)
    positioned = any(is_position(key) for key in state)
    said = [f"{entry.name}: timm's has all these names and shapes", of_classes]
    said.append(
        f"images of {size} pixels: {'from the number of positions' if positioned else 'its usual size, no file tells'}"
    )
    variants: dict[str, tuple[Any, ...]] = {}
    if _module_of(entry.name) == "resnet":
        variants["act_layer"] = ("relu", "gelu", "silu")
    first = Normalisation(mean=tuple(config.mean), std=tuple(config.std))
    return Architecture(
        network=entry.name,
        num_classes=classes,
        head=head,
        inferred=(*said, *on_others(others)),
        variants=variants,
        preprocessings=imagenet(size, first=first),
        alternatives=others,
    )


def _config(name: str) -> Any:
    return networks.add_to_timm().get_pretrained_cfg(name)


def _module_of(name: str) -> str:
    from timm.models._registry import _model_to_module

    return str(_model_to_module.get(name, ""))


def _plainness(entry: Indexed, state: State) -> tuple[Any, ...]:
    """Sort key of networks of one signature: those for this image size, then the plainest names."""
    odd = entry.name.startswith(("test_", "tf_", "tv_", "gluon_", "legacy_", "ssl_", "naflexvit"))
    config = _config(entry.name) if not entry.name.startswith(PREFIX) else None
    usual = config.input_size[-1] if config is not None else 0
    return (usual not in set(sizes(state, usual)), odd, entry.name.count("_"), len(entry.name), entry.name)


def _new(state: State) -> list[Indexed]:
    """Networks in timm but not in the index, where no entry of the index fits: a newer timm."""
    timm = networks.add_to_timm()
    known = {entry.name for entry in index()}
    if matches(state, index()):
        return []
    found = list[Indexed]()
    for name in timm.list_models():
        config = timm.get_pretrained_cfg(name)
        if name in known or name in networks.available() or config is None or not isinstance(config.classifier, str):
            continue
        module = weightless(partial(timm.create_model, name, pretrained=False, num_classes=0))
        found.append(Indexed(name, signature(module.state_dict()), config.classifier, arithmetic(module)))
    return found
