"""State of a small visual tower of CLIP as open_clip and transformers name it, and its embeddings, in plain functions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]
WIDTH, LAYERS, PATCH, EMBED, SIZE = 128, 2, 16, 24, 64


def tower() -> State:
    generator = torch.Generator().manual_seed(1)
    shapes: dict[str, tuple[int, ...]] = {
        "class_embedding": (WIDTH,),
        "positional_embedding": ((SIZE // PATCH) ** 2 + 1, WIDTH),
        "proj": (WIDTH, EMBED),
        "conv1.weight": (WIDTH, 3, PATCH, PATCH),
    }
    for block in range(LAYERS):
        unit = f"transformer.resblocks.{block}."
        shapes |= {f"{unit}attn.in_proj_weight": (3 * WIDTH, WIDTH), f"{unit}attn.in_proj_bias": (3 * WIDTH,)}
        layers = (("attn.out_proj", WIDTH, WIDTH), ("mlp.c_fc", 4 * WIDTH, WIDTH), ("mlp.c_proj", WIDTH, 4 * WIDTH))
        for name, rows, columns in layers:
            shapes |= {f"{unit}{name}.weight": (rows, columns), f"{unit}{name}.bias": (rows,)}
        shapes |= {f"{unit}{norm}.{what}": (WIDTH,) for norm in ("ln_1", "ln_2") for what in ("weight", "bias")}
    shapes |= {f"{norm}.{what}": (WIDTH,) for norm in ("ln_pre", "ln_post") for what in ("weight", "bias")}
    return {key: torch.randn(shape, generator=generator) * 0.2 for key, shape in shapes.items()}


def embeddings(state: State, x: Tensor, *, quick: bool) -> Tensor:
    """Radford et al. 2021, section 2.4, written in functions."""

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, (WIDTH,), state[f"{name}.weight"], state[f"{name}.bias"])

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    tokens = F.conv2d(x, state["conv1.weight"], None, PATCH).flatten(2).transpose(1, 2)
    x = torch.cat([state["class_embedding"].expand(len(x), 1, -1), tokens], 1) + state["positional_embedding"]
    x, heads = norm("ln_pre", x), WIDTH // 64
    for block in range(LAYERS):
        unit = f"transformer.resblocks.{block}."
        y = F.linear(norm(f"{unit}ln_1", x), state[f"{unit}attn.in_proj_weight"], state[f"{unit}attn.in_proj_bias"])
        q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in y.chunk(3, -1))
        attended = (q @ k.transpose(-2, -1) / 8).softmax(-1) @ v
        x = x + linear(f"{unit}attn.out_proj", attended.transpose(1, 2).flatten(2))
        y = linear(f"{unit}mlp.c_fc", norm(f"{unit}ln_2", x))
        x = x + linear(f"{unit}mlp.c_proj", y * torch.sigmoid(1.702 * y) if quick else F.gelu(y))
    return norm("ln_post", x[:, 0]) @ state["proj"]


def by_transformers(state: State) -> State:
    """The same tower as transformers' CLIPModel names it, with other parts of the model beside it."""
    renamed = {
        "class_embedding": "embeddings.class_embedding",
        "positional_embedding": "embeddings.position_embedding.weight",
        "conv1.weight": "embeddings.patch_embedding.weight",
    }
    new: State = {"logit_scale": torch.zeros(()), "text_model.final_layer_norm.bias": torch.zeros(3)}
    new["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    for key, value in state.items():
        if key == "proj":
            new["visual_projection.weight"] = value.T.clone()
        elif ".in_proj_" in key:
            at = key.replace("transformer.resblocks.", "encoder.layers.").partition(".attn.")[0]
            for part, name in zip(value.chunk(3), "qkv", strict=True):
                new[f"vision_model.{at}.self_attn.{name}_proj.{key.rpartition('_')[2]}"] = part.clone()
        else:
            name = renamed.get(key, key).replace("transformer.resblocks.", "encoder.layers.")
            for now, then in (
                ("ln_pre", "pre_layrnorm"),
                ("ln_post", "post_layernorm"),
                ("attn.out_proj", "self_attn.out_proj"),
                ("ln_1", "layer_norm1"),
                ("ln_2", "layer_norm2"),
                ("c_fc", "fc1"),
                ("c_proj", "fc2"),
            ):
                name = name.replace(now, then)
            new[f"vision_model.{name}"] = value
    return new


def with_text(state: State) -> State:
    """The same tower in open_clip's file of a whole CLIP."""
    return {"logit_scale": torch.zeros(()), **{f"visual.{key}": value for key, value in state.items()}}
