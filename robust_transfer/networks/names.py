"""Network names: ours with any timm name beside them, spelled with dashes or underscores, in any case."""

from __future__ import annotations

from typing import Any

import timm
from torch import nn

from robust_transfer.errors import NetworkError
from robust_transfer.registry import unknown

OURS: dict[str, str] = {}  # name -> one-line summary


def available() -> dict[str, str]:
    """The networks that this package adds to timm, with a line on each."""
    return dict(OURS)


def canonical(name: str) -> str:
    """timm's spelling of a network's name: ``WRN-28-10`` is ``wrn_28_10``."""
    folded = name.strip().lower().replace("-", "_")
    for candidate in (name, folded):
        if timm.is_model(candidate):
            return candidate
    raise NetworkError(unknown("network", name, [*OURS, *timm.list_models()]))


def create(name: str, *, num_classes: int, input_size: int, **settings: Any) -> nn.Module:
    """A freshly initialised network without pretrained weights.

    ``input_size`` is the image's side in pixels; networks whose shape depends on it (vision transformers) are told.
    """
    name = canonical(name)
    if name not in OURS and _takes_image_size(name):
        settings = {"img_size": input_size, **settings}
    try:
        return timm.create_model(name, pretrained=False, num_classes=num_classes, **settings)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise NetworkError(f"cannot build the network {name!r} for {input_size}x{input_size} images: {error}") from None


def _takes_image_size(name: str) -> bool:
    config = timm.get_pretrained_cfg(name)
    return bool(config and config.fixed_input_size) or name.startswith(("vit_", "deit", "swin", "beit"))
