"""States of wide residual networks in the layouts of TRADES and of DeepMind, and their logits, in plain functions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from published_parts import ACTIVATIONS, State, Writer, conv, linear, norm
from torch import Tensor


def trades(
    depth: int = 10, width: int = 1, classes: int = 10, *, sub_block: bool = False, bias: bool = True, seed: int = 0
) -> State:
    write = Writer(seed)
    write.conv("conv1", 3, 16, 3)
    sizes = [16, 16 * width, 32 * width, 64 * width]
    stages = [("block1", 1), *([("sub_block1", 1)] if sub_block else []), ("block2", 2), ("block3", 3)]
    for stage, at in stages:
        for i in range((depth - 4) // 6):
            name, inputs, outputs = f"{stage}.layer.{i}", sizes[at - (i == 0)], sizes[at]
            write.norm(f"{name}.bn1", inputs)
            write.conv(f"{name}.conv1", inputs, outputs, 3)
            write.norm(f"{name}.bn2", outputs)
            write.conv(f"{name}.conv2", outputs, outputs, 3)
            if inputs != outputs:
                write.conv(f"{name}.convShortcut", inputs, outputs, 1)
    write.norm("bn1", sizes[-1])
    write.linear("fc", sizes[-1], classes, bias)
    return write.state


def trades_logits(s: State, x: Tensor, activation: str = "relu", cosine: bool = False) -> Tensor:
    act = ACTIVATIONS[activation]
    x = conv(s, "conv1", x)
    for stage in (1, 2, 3):
        i = 0
        while f"block{stage}.layer.{i}.conv1.weight" in s:
            name, stride = f"block{stage}.layer.{i}", 2 if stage > 1 and i == 0 else 1
            active = act(norm(s, f"{name}.bn1", x))
            y = conv(s, f"{name}.conv2", act(norm(s, f"{name}.bn2", conv(s, f"{name}.conv1", active, stride))))
            x = y + (conv(s, f"{name}.convShortcut", active, stride) if f"{name}.convShortcut.weight" in s else x)
            i += 1
    z = act(norm(s, "bn1", x)).mean((2, 3))
    if cosine:
        rows = s["fc.weight"]
        return F.cosine_similarity(z[:, None], rows[None], dim=2)
    return linear(s, "fc", z)


def dm_wide(depth: int = 10, width: int = 1, classes: int = 10, *, sparse: bool = False, seed: int = 0) -> State:
    write = Writer(seed)
    write.conv("init_conv", 3, 16, 3)
    sizes = [16, 16 * width, 32 * width, 64 * width]
    for stage in range(3):
        for i in range((depth - 4) // 6):
            name, inputs, outputs = f"layer.{stage}.block.{i}", sizes[stage + (i > 0)], sizes[stage + 1]
            write.norm(f"{name}.batchnorm_0", inputs)
            write.conv(f"{name}.conv_0", inputs, outputs, 3)
            write.norm(f"{name}.batchnorm_1", outputs)
            write.conv(f"{name}.conv_1", outputs, outputs, 3)
            if inputs != outputs:
                write.conv(f"{name}.shortcut", inputs, outputs, 1)
            if sparse:
                for part, channels in enumerate((inputs, outputs, outputs)):
                    write.sparse(f"{name}.meansparse_{part}", channels)
    write.norm("batchnorm", sizes[-1])
    if sparse:
        write.sparse("meansparse_end", sizes[-1])
    write.linear("logits", sizes[-1], classes)
    return write.state


def flattened(s: State, name: str, x: Tensor) -> Tensor:
    """MeanSparse, where the state has it."""
    if f"{name}.threshold" not in s:
        return x
    mean = s[f"{name}.running_mean"].view(1, -1, 1, 1).expand_as(x)
    away = (x - mean).abs() / s[f"{name}.running_var"].sqrt().view(1, -1, 1, 1)
    return torch.where(away < s[f"{name}.threshold"], mean, x)


def dm_wide_logits(s: State, x: Tensor, activation: str = "silu", padding: str = "asymmetric") -> Tensor:
    act = ACTIVATIONS[activation]
    x = conv(s, "init_conv", x)
    for stage in range(3):
        i = 0
        while f"layer.{stage}.block.{i}.conv_0.weight" in s:
            name, stride = f"layer.{stage}.block.{i}", 2 if stage and i == 0 else 1
            active = act(flattened(s, f"{name}.meansparse_0", norm(s, f"{name}.batchnorm_0", x)))
            y = norm(s, f"{name}.batchnorm_1", conv(s, f"{name}.conv_0", active, stride, padding))
            y = conv(s, f"{name}.conv_1", act(flattened(s, f"{name}.meansparse_1", y)))
            y = y + (conv(s, f"{name}.shortcut", active, stride) if f"{name}.shortcut.weight" in s else x)
            x, i = flattened(s, f"{name}.meansparse_2", y), i + 1
    return linear(s, "logits", act(flattened(s, "meansparse_end", norm(s, "batchnorm", x))).mean((2, 3)))
