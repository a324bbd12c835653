"""ConvNeXt and ViT with convolutional stems: Singh et al. 2023 (revisiting-at), and networks fine-tuned from them."""

from __future__ import annotations

import re
from typing import Any

from robust_transfer.errors import CheckpointError
from robust_transfer.foreign.families.base import FAMILIES, Architecture, Family, State
from robust_transfer.foreign.families.fitting import counts
from robust_transfer.foreign.families.matching import classes_of, fits, head_in, imagenet, sizes
from robust_transfer.foreign.families.normalisations import IMAGENET, RAW

CONVNEXT, VIT = "stem.stem.", "patch_embed.proj.stem."
LAYOUT = "networks with a convolutional stem"


@FAMILIES.register(
    "convstem", summary="ConvNeXt and ViT with convolutional stems", paper="Singh et al. 2023, arXiv:2303.01870"
)
class ConvStemFamily(Family):
    """States with ``stem.stem.0`` (ConvNeXt) or ``patch_embed.proj.stem.0`` (vision transformers)."""

    def recognise(self, state: State) -> Architecture | None:
        """Network of the depths and widths that the shapes tell; None without such a stem."""
        if f"{CONVNEXT}0.weight" in state:
            return _convnext(state)
        return _vit(state) if f"{VIT}0.weight" in state else None


def _convnext(state: State) -> Architecture:
    """ConvNeXt: its authors train it on raw pixels."""
    stages = {int(found[1]) for key in state if (found := re.match(r"stages\.(\d+)\.", key))}
    depths = counts(state, [f"stages.{stage}.blocks." for stage in range(len(stages))], LAYOUT)
    dims = tuple(_width(state, f"stages.{stage}.blocks.0.norm.weight") for stage in range(len(stages)))
    settings: dict[str, Any] = {"depths": list(depths), "dims": list(dims), "stem": _stem(state, CONVNEXT)}
    said = (
        f"depths {', '.join(map(str, depths))}: so many blocks in each stage",
        f"widths {', '.join(map(str, dims))}: norms in the stages have as many channels",
    )
    return _fitted(state, "convstem_convnext", settings, said, 224, raw=True)


def _vit(state: State) -> Architecture:
    """Vision transformer: heads of 64 channels, as in DeiT's; its authors give it ImageNet's normalisation."""
    (depth,) = counts(state, ["blocks."], LAYOUT)
    width = _width(state, "norm.weight")
    size = next(sizes({**state, "patches.weight": state[f"{VIT}0.weight"].new_empty(1, 3, 16, 16)}, 224), 224)
    settings: dict[str, Any] = {
        "embed_dim": width,
        "depth": depth,
        "num_heads": max(1, width // 64),
        "stem": _stem(state, VIT),
    }
    said = (
        f"depth {depth}: so many blocks",
        f"width {width}: norm.weight has as many channels",
        f"{settings['num_heads']} heads: 64 channels each, as in DeiT; no file tells",
    )
    return _fitted(state, "convstem_vit", settings, said, size, raw=False)


def _stem(state: State, prefix: str) -> list[int]:
    """Channels of the stem's 3x3 convolutions."""
    keys = [key for key in state if re.fullmatch(rf"{re.escape(prefix)}\d+\.weight", key)]
    convolutions = [state[key] for key in keys if state[key].dim() == 4 and state[key].shape[-1] == 3]
    return [int(weight.shape[0]) for weight in convolutions]


def _width(state: State, key: str) -> int:
    if key not in state:
        raise CheckpointError(
            f"these are weights in the layout of {LAYOUT}, but {key!r} is missing: get the file again"
        )
    return int(state[key].shape[0])


def _fitted(
    state: State, network: str, settings: dict[str, Any], said: tuple[str, ...], size: int, *, raw: bool
) -> Architecture:
    head = head_in(state, "head.fc" if network == "convstem_convnext" else "head")
    if not fits(state, network, head, size, settings):
        raise CheckpointError(
            f"these are weights in the layout of {LAYOUT}, but not all of a network with {said[0]} and {said[1]}: "
            "get the file again"
        )
    classes, of_classes = classes_of(state, head)
    stem = f"a stem of {len(settings['stem'])} convolutions, to {', '.join(map(str, settings['stem']))} channels"
    return Architecture(
        network=network,
        num_classes=classes,
        head=head,
        settings=settings,
        inferred=(*said, stem, of_classes, f"images of {size} pixels"),
        preprocessings=imagenet(size, first=RAW if raw else IMAGENET),
    )
