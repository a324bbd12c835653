"""Visual towers of CLIP: TeCoA, FARE, LEAF as open_clip or transformers name them; feature extractors without a head."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from robust_transfer import networks
from robust_transfer.errors import CheckpointError
from robust_transfer.foreign.families.base import FAMILIES, Architecture, Family, State
from robust_transfer.foreign.families.matching import fits, sizes
from robust_transfer.foreign.families.normalisations import RAW
from robust_transfer.networks.open_clip import PREFIX
from robust_transfer.preprocessing import Normalisation, Preprocessing

CLIP = Normalisation(mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711))
# open_clip's names by width and layers: all else comes from the shapes.
TRANSFORMERS = {(768, 12): "ViT-B-16", (1024, 24): "ViT-L-14", (1280, 32): "ViT-H-14"}
TRANSFORMERS |= {(1408, 40): "ViT-g-14", (1664, 48): "ViT-bigG-14"}
# ConvNeXt in open_clip, by width of the first stage and of the embedding.
CONVNEXTS = {(128, 512): "convnext_base", (128, 640): "convnext_base_w", (192, 768): "convnext_large_d"}
VISUAL = re.compile(r"^(module\.|model\.)*visual\.")
HF = "vision_model."
RENAMED = {
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding.weight": "conv1.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "pre_layrnorm.": "ln_pre.",
    "post_layernorm.": "ln_post.",
    "encoder.layers.": "transformer.resblocks.",
    ".self_attn.out_proj.": ".attn.out_proj.",
    ".layer_norm1.": ".ln_1.",
    ".layer_norm2.": ".ln_2.",
    ".mlp.fc1.": ".mlp.c_fc.",
    ".mlp.fc2.": ".mlp.c_proj.",
}


@FAMILIES.register(
    "clip", summary="visual towers of robust CLIP", paper="Schlarmann et al. 2024 (FARE); Mao et al. 2023 (TeCoA)"
)
class ClipFamily(Family):
    """States with ``class_embedding`` and ``transformer.resblocks``, with or without ``visual.``, or transformers' names.

    Whether GELU is OpenAI's quick one is not in the file: what is trained from OpenAI's weights has it.
    """

    def recognise(self, state: State) -> Architecture | None:
        """Tower by its shapes, for open_clip to build; None for another layout. What is not visual is unused."""
        tower = _tower(state)
        if "class_embedding" in tower and "conv1.weight" in tower:
            return _transformer(state, tower)
        return _convnext(state, tower) if "trunk.stem.0.weight" in tower and "head.proj.weight" in tower else None

    def body(self, state: State, found: Architecture, settings: Mapping[str, Any]) -> State:
        """State of the tower under open_clip's names."""
        return _tower(state)


def _tower(state: State) -> dict[str, Tensor]:
    """Visual part of a state, under open_clip's names."""
    if any(key.startswith(HF) for key in state):
        return _from_transformers(state)
    visual = {VISUAL.sub("", key): value for key, value in state.items() if VISUAL.match(key)}
    return visual or dict(state)


def _from_transformers(state: State) -> dict[str, Tensor]:
    """open_clip's names for those of transformers' CLIP: queries, keys and values are one matrix there."""
    named, apart = dict[str, Tensor](), dict[str, dict[str, Tensor]]()
    for key, value in state.items():
        if not key.startswith(HF) or key.endswith("position_ids"):
            continue
        new = key.removeprefix(HF)
        for old, now in RENAMED.items():
            new = new.replace(old, now)
        if found := re.fullmatch(r"(.*)\.self_attn\.([qkv])_proj\.(weight|bias)", new):
            apart.setdefault(f"{found[1]}.attn.in_proj_{found[3]}", {})[found[2]] = value
        else:
            named[new] = value
    for key, parts in apart.items():
        if len(parts) == 3:
            named[key] = torch.cat([parts[part] for part in "qkv"])
    if "visual_projection.weight" in state:
        named["proj"] = state["visual_projection.weight"].T.contiguous()
    return named


def _transformer(state: State, tower: dict[str, Tensor]) -> Architecture:
    width, patch = int(tower["conv1.weight"].shape[0]), int(tower["conv1.weight"].shape[-1])
    layers = len({key.split(".")[2] for key in tower if key.startswith("transformer.resblocks.")})
    if "proj" not in tower:
        raise CheckpointError(
            "these are weights of a visual tower of CLIP without its projection (proj, visual_projection.weight): "
            "give the file of the whole tower"
        )
    name = TRANSFORMERS.get((width, layers), "ViT-B-16")
    embed, size = int(tower["proj"].shape[1]), next(sizes(tower, 224), 224)
    ratio = tower["transformer.resblocks.0.mlp.c_fc.weight"].shape[0] / width
    settings: dict[str, Any] = {"width": width, "layers": layers, "patch_size": patch, "embed_dim": embed}
    settings |= {"mlp_ratio": ratio, **({} if (width, layers) in TRANSFORMERS else {"head_width": min(64, width)})}
    said = (
        f"{name} of open_clip: {layers} layers of width {width}",
        f"patches of {patch} pixels, images of {size}: from the number of positions",
        f"features are embeddings of {embed}; there is no head",
    )
    return _fitted(state, tower, Architecture(f"{PREFIX}{name}", 0, "", settings, said), size)


def _convnext(state: State, tower: dict[str, Tensor]) -> Architecture | None:
    width, embed = int(tower["trunk.stem.0.weight"].shape[0]), int(tower["head.proj.weight"].shape[0])
    name = CONVNEXTS.get((width, embed))
    if name is None:
        return None
    said = (f"{name} of open_clip: width {width}, embeddings of {embed}", "images of 256 pixels", "there is no head")
    return _fitted(state, tower, Architecture(f"{PREFIX}{name}", 0, "", {}, said), 256)


def _fitted(state: State, tower: dict[str, Tensor], found: Architecture, size: int) -> Architecture:
    networks.canonical(found.network)  # says so where open_clip is missing
    if not fits(tower, found.network, "", size, found.settings):
        raise CheckpointError(
            f"these are weights of a visual tower of CLIP, but not all of {found.inferred[0]}: get the file again"
        )
    return Architecture(
        network=found.network,
        num_classes=0,
        head="",
        settings=found.settings,
        inferred=found.inferred,
        variants={} if "convnext" in found.network else {"quick_gelu": (True, False)},
        unused=_unused(state),
        preprocessings=tuple(Preprocessing(size=size, normalisation=each) for each in (CLIP, RAW)),
    )


def _unused(state: State) -> tuple[str, ...]:
    """Keys outside the visual tower: text, temperature, position numbers."""
    if any(key.startswith(HF) for key in state):
        used = (HF, "visual_projection.")
        return tuple(key for key in state if not key.startswith(used) or key.endswith("position_ids"))
    if any(VISUAL.match(key) for key in state):
        return tuple(key for key in state if not VISUAL.match(key))
    return ()
