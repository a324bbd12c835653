"""States of ConvNeXt and ViT with convolutional stems (Singh et al. 2023), and their logits, in plain functions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]


def drawn(shapes: dict[str, tuple[int, ...]]) -> State:
    generator = torch.Generator().manual_seed(1)
    return {key: torch.randn(shape, generator=generator) * 0.2 for key, shape in shapes.items()}


def stem_shapes(prefix: str, widths: list[int], out: int | None) -> dict[str, tuple[int, ...]]:
    shapes, inputs = dict[str, tuple[int, ...]](), 3
    for i, width in enumerate(widths):
        shapes[f"{prefix}{3 * i}.weight"], shapes[f"{prefix}{3 * i}.bias"] = (width, inputs, 3, 3), (width,)
        shapes[f"{prefix}{3 * i + 1}.weight"] = shapes[f"{prefix}{3 * i + 1}.bias"] = (width,)
        inputs = width
    if out is not None:
        at = 3 * len(widths)
        shapes[f"{prefix}{at}.weight"], shapes[f"{prefix}{at}.bias"] = (out, inputs, 1, 1), (out,)
    return shapes


def channel_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    mean, variance = x.mean(1, keepdim=True), x.var(1, keepdim=True, correction=0)
    return (x - mean) / (variance + 1e-6).sqrt() * weight[:, None, None] + bias[:, None, None]


def stem(state: State, prefix: str, strides: list[int], x: Tensor) -> Tensor:
    for i, stride in enumerate(strides):
        x = F.conv2d(x, state[f"{prefix}{3 * i}.weight"], state[f"{prefix}{3 * i}.bias"], stride, 1)
        x = F.gelu(channel_norm(x, state[f"{prefix}{3 * i + 1}.weight"], state[f"{prefix}{3 * i + 1}.bias"]))
    last = f"{prefix}{3 * len(strides)}"
    return F.conv2d(x, state[f"{last}.weight"], state[f"{last}.bias"]) if f"{last}.weight" in state else x


# ---------------------------------------------------------------- ConvNeXt


def convnext_shapes(widths: list[int], depths: list[int], dims: list[int], classes: int) -> dict[str, tuple[int, ...]]:
    shapes = stem_shapes("stem.stem.", widths, None)
    for stage, (depth, dim) in enumerate(zip(depths, dims, strict=True)):
        at = f"stages.{stage}."
        if stage:
            before = dims[stage - 1]
            shapes |= {f"{at}downsample.0.weight": (before,), f"{at}downsample.0.bias": (before,)}
            shapes |= {f"{at}downsample.1.weight": (dim, before, 2, 2), f"{at}downsample.1.bias": (dim,)}
        for block in range(depth):
            unit = f"{at}blocks.{block}."
            shapes |= {f"{unit}gamma": (dim,), f"{unit}conv_dw.weight": (dim, 1, 7, 7), f"{unit}conv_dw.bias": (dim,)}
            shapes |= {f"{unit}norm.weight": (dim,), f"{unit}norm.bias": (dim,)}
            shapes |= {f"{unit}mlp.fc1.weight": (4 * dim, dim), f"{unit}mlp.fc1.bias": (4 * dim,)}
            shapes |= {f"{unit}mlp.fc2.weight": (dim, 4 * dim), f"{unit}mlp.fc2.bias": (dim,)}
    end = dims[-1]
    shapes |= {"head.norm.weight": (end,), "head.norm.bias": (end,)}
    return shapes | {"head.fc.weight": (classes, end), "head.fc.bias": (classes,)}


def convnext(state: State, strides: list[int], depths: list[int], x: Tensor) -> Tensor:
    """Liu et al. 2022, with the stem of Singh et al. 2023, written in functions."""
    x = stem(state, "stem.stem.", strides, x)
    for stage, depth in enumerate(depths):
        at = f"stages.{stage}."
        if stage:
            x = channel_norm(x, state[f"{at}downsample.0.weight"], state[f"{at}downsample.0.bias"])
            x = F.conv2d(x, state[f"{at}downsample.1.weight"], state[f"{at}downsample.1.bias"], 2)
        for block in range(depth):
            unit = f"{at}blocks.{block}."
            y = F.conv2d(x, state[f"{unit}conv_dw.weight"], state[f"{unit}conv_dw.bias"], 1, 3, groups=x.shape[1])
            y = channel_norm(y, state[f"{unit}norm.weight"], state[f"{unit}norm.bias"]).permute(0, 2, 3, 1)
            y = F.gelu(F.linear(y, state[f"{unit}mlp.fc1.weight"], state[f"{unit}mlp.fc1.bias"]))
            y = F.linear(y, state[f"{unit}mlp.fc2.weight"], state[f"{unit}mlp.fc2.bias"])
            x = x + (state[f"{unit}gamma"] * y).permute(0, 3, 1, 2)
    z = channel_norm(x.mean((2, 3), keepdim=True), state["head.norm.weight"], state["head.norm.bias"])[:, :, 0, 0]
    return F.linear(z, state["head.fc.weight"], state["head.fc.bias"])


# ---------------------------------------------------------------- ViT


def vit_shapes(widths: list[int], dim: int, depth: int, tokens: int, classes: int) -> dict[str, tuple[int, ...]]:
    shapes = stem_shapes("patch_embed.proj.stem.", widths, dim)
    shapes |= {"cls_token": (1, 1, dim), "pos_embed": (1, tokens, dim)}
    for block in range(depth):
        unit = f"blocks.{block}."
        for name, rows, columns in (("attn.qkv", 3 * dim, dim), ("attn.proj", dim, dim)):
            shapes |= {f"{unit}{name}.weight": (rows, columns), f"{unit}{name}.bias": (rows,)}
        for name, rows, columns in (("mlp.fc1", 4 * dim, dim), ("mlp.fc2", dim, 4 * dim)):
            shapes |= {f"{unit}{name}.weight": (rows, columns), f"{unit}{name}.bias": (rows,)}
        for name in ("norm1", "norm2"):
            shapes |= {f"{unit}{name}.weight": (dim,), f"{unit}{name}.bias": (dim,)}
    shapes |= {"norm.weight": (dim,), "norm.bias": (dim,)}
    return shapes | {"head.weight": (classes, dim), "head.bias": (classes,)}


def vit(state: State, heads: int, depth: int, x: Tensor) -> Tensor:
    """Dosovitskiy et al. 2021, with the stem of Singh et al. 2023, written in functions."""

    def of(name: str) -> tuple[Tensor, Tensor]:
        return state[f"{name}.weight"], state[f"{name}.bias"]

    tokens = stem(state, "patch_embed.proj.stem.", [2, 2, 2, 2], x).flatten(2).transpose(1, 2)
    x = torch.cat([state["cls_token"].expand(len(x), -1, -1), tokens], 1) + state["pos_embed"]
    dim = x.shape[-1]
    for block in range(depth):
        unit = f"blocks.{block}."
        y = F.layer_norm(x, (dim,), *of(f"{unit}norm1"), 1e-6)
        parts = F.linear(y, *of(f"{unit}attn.qkv")).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in parts)
        weights = (q @ k.transpose(-2, -1) * (dim // heads) ** -0.5).softmax(-1)
        x = x + F.linear((weights @ v).transpose(1, 2).flatten(2), *of(f"{unit}attn.proj"))
        y = F.layer_norm(x, (dim,), *of(f"{unit}norm2"), 1e-6)
        x = x + F.linear(F.gelu(F.linear(y, *of(f"{unit}mlp.fc1"))), *of(f"{unit}mlp.fc2"))
    z = F.layer_norm(x, (dim,), *of("norm"), 1e-6)[:, 0]
    return F.linear(z, *of("head"))
