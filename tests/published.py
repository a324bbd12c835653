"""States as the authors of robust CIFAR networks save them, with random weights, and what their forward passes compute.

Written after the papers and the names in the public files, in plain functions of a dictionary: nothing of the package.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda x: x.clamp_min(0),
    "silu": lambda x: x / (1 + torch.exp(-x)),
}
RESNETS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


class Writer:
    """Random float64 weights under given names; statistics of norms are far from 0 and 1, so that errors show."""

    def __init__(self, seed: int) -> None:
        self.state: State = {}
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def uniform(self, *shape: int) -> Tensor:
        return 0.5 + torch.rand(*shape, generator=self.generator, dtype=torch.float64)

    def conv(self, name: str, inputs: int, outputs: int, size: int) -> None:
        self.state[f"{name}.weight"] = self.normal(outputs, inputs, size, size) * (2 / (inputs * size**2)) ** 0.5

    def norm(self, name: str, channels: int) -> None:
        self.state |= {f"{name}.weight": self.uniform(channels), f"{name}.bias": 0.3 * self.normal(channels)}
        self.state |= {
            f"{name}.running_mean": 0.3 * self.normal(channels),
            f"{name}.running_var": self.uniform(channels),
        }
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def linear(self, name: str, inputs: int, outputs: int, bias: bool = True) -> None:
        self.state[f"{name}.weight"] = self.normal(outputs, inputs)
        if bias:
            self.state[f"{name}.bias"] = self.normal(outputs)

    def sparse(self, name: str, channels: int) -> None:
        self.state |= {
            f"{name}.running_mean": 0.3 * self.normal(channels),
            f"{name}.running_var": self.uniform(channels),
        }
        self.state[f"{name}.threshold"] = torch.tensor(0.3, dtype=torch.float64)
        self.state |= {f"{name}.flag_update_statistics": torch.tensor(0), f"{name}.batch_num": torch.tensor(391.0)}


def norm(s: State, name: str, x: Tensor) -> Tensor:
    weight, bias, mean, variance = (
        s[f"{name}.{part}"].view(1, -1, 1, 1) for part in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias


def conv(s: State, name: str, x: Tensor, stride: int = 1, padding: str = "symmetric") -> Tensor:
    weight = s[f"{name}.weight"]
    if weight.shape[-1] == 3:  # a frame of zeros; asymmetric with a stride of 2: only at the right and below
        before = 0 if padding == "asymmetric" and stride == 2 else 1
        framed = x.new_zeros(*x.shape[:2], x.shape[2] + before + 1, x.shape[3] + before + 1)
        framed[:, :, before : before + x.shape[2], before : before + x.shape[3]] = x
        x = framed
    return F.conv2d(x, weight, stride=stride)


def linear(s: State, name: str, z: Tensor) -> Tensor:
    return z @ s[f"{name}.weight"].T + s.get(f"{name}.bias", torch.zeros(1, dtype=z.dtype))


# ------------------------------------------------------------------------------------------------ TRADES


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


# ------------------------------------------------------------------------------------------------ DeepMind


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


def dm_preact(depth: int = 18, width: int = 4, classes: int = 10, *, seed: int = 0) -> State:
    write = Writer(seed)
    write.conv("conv_2d", 3, width, 3)
    channels = width
    for stage, count in enumerate(RESNETS[depth]):
        for i in range(count):
            name, outputs = f"layer_{stage}.{i}", width * 2**stage
            write.norm(f"{name}.batchnorm_0", channels)
            write.conv(f"{name}.conv_2d_1", channels, outputs, 3)
            write.norm(f"{name}.batchnorm_1", outputs)
            write.conv(f"{name}.conv_2d_2", outputs, outputs, 3)
            if stage and i == 0:
                write.conv(f"{name}.shortcut", channels, outputs, 3)
            channels = outputs
    write.norm("batchnorm", channels)
    write.linear("logits", channels, classes)
    return write.state


def dm_preact_logits(s: State, x: Tensor, activation: str = "silu", padding: str = "asymmetric") -> Tensor:
    act = ACTIVATIONS[activation]
    x = conv(s, "conv_2d", x)
    for stage in range(4):
        i = 0
        while f"layer_{stage}.{i}.conv_2d_1.weight" in s:
            name, stride = f"layer_{stage}.{i}", 2 if stage and i == 0 else 1
            y = conv(s, f"{name}.conv_2d_1", act(norm(s, f"{name}.batchnorm_0", x)), stride, padding)
            y = conv(s, f"{name}.conv_2d_2", act(norm(s, f"{name}.batchnorm_1", y)))
            # 3x3, of the bare input
            x = y + (conv(s, f"{name}.shortcut", x, stride, padding) if f"{name}.shortcut.weight" in s else x)
            i += 1
    return linear(s, "logits", act(norm(s, "batchnorm", x)).mean((2, 3)))


# ------------------------------------------------------------------------------------------------ ResNets


def resnet(
    depth: int = 18, width: int = 4, classes: int = 10, *, preact: bool = False, last_norm: bool = False, seed: int = 0
) -> State:
    """kuangliu's, or with ``preact`` Rice's (``last_norm``) and Wong's."""
    write = Writer(seed)
    write.conv("conv1", 3, width, 3)
    if not preact:
        write.norm("bn1", width)
    times = 4 if depth >= 50 else 1
    channels = width
    for stage, count in enumerate(RESNETS[depth], start=1):
        inside = width * 2 ** (stage - 1)
        outputs = inside * times
        for i in range(count):
            name = f"layer{stage}.{i}"
            shapes = [(channels, inside, 3), (inside, inside, 3)]
            if times == 4:
                shapes = [(channels, inside, 1), (inside, inside, 3), (inside, outputs, 1)]
            for part, (before, after, size) in enumerate(shapes, start=1):
                write.norm(f"{name}.bn{part}", before if preact else after)
                write.conv(f"{name}.conv{part}", before, after, size)
            if channels != outputs or (stage > 1 and i == 0):
                write.conv(f"{name}.shortcut.0", channels, outputs, 1)
                if not preact:
                    write.norm(f"{name}.shortcut.1", outputs)
            channels = outputs
    if last_norm:
        write.norm("bn", channels)
    write.linear("linear", channels, classes)
    return write.state


def strides(s: State, name: str, stride: int) -> dict[int, int]:
    """Strides of a block's convolutions by number: the first 3x3 one has the block's."""
    bottleneck = f"{name}.conv3.weight" in s
    return {1: 1, 2: stride, 3: 1} if bottleneck else {1: stride, 2: 1}


def kuangliu_logits(s: State, x: Tensor, activation: str = "relu") -> Tensor:
    act = ACTIVATIONS[activation]
    x = act(norm(s, "bn1", conv(s, "conv1", x)))
    for stage in (1, 2, 3, 4):
        i = 0
        while f"layer{stage}.{i}.conv1.weight" in s:
            name, stride, y = f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1, x
            parts = strides(s, name, stride)
            for part, step in parts.items():
                y = norm(s, f"{name}.bn{part}", conv(s, f"{name}.conv{part}", y, step))
                y = act(y) if part < len(parts) else y
            if f"{name}.shortcut.0.weight" in s:
                x = norm(s, f"{name}.shortcut.1", conv(s, f"{name}.shortcut.0", x, stride))
            x, i = act(x + y), i + 1
    return linear(s, "linear", x.mean((2, 3)))


def preact_logits(s: State, x: Tensor, activation: str = "relu", shortcut: str = "activated") -> Tensor:
    act = ACTIVATIONS[activation]
    x = conv(s, "conv1", x)
    for stage in (1, 2, 3, 4):
        i = 0
        while f"layer{stage}.{i}.conv1.weight" in s:
            name, stride = f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1
            active = y = act(norm(s, f"{name}.bn1", x))
            for part, step in strides(s, name, stride).items():
                y = conv(s, f"{name}.conv{part}", y if part == 1 else act(norm(s, f"{name}.bn{part}", y)), step)
            if f"{name}.shortcut.0.weight" in s:
                x = conv(s, f"{name}.shortcut.0", active if shortcut == "activated" else x, stride)
            x, i = x + y, i + 1
    x = act(norm(s, "bn", x)) if "bn.weight" in s else x
    return linear(s, "linear", x.mean((2, 3)))


# Name -> family, state, logits, and settings that its keys and shapes tell.
Case = tuple[str, Callable[[], State], Callable[..., Tensor], dict[str, Any]]
CASES: dict[str, Case] = {
    "trades": ("trades-wrn", lambda: trades(16, 2), trades_logits, {"depth": 16, "width": 2}),
    "trades, width 1": ("trades-wrn", trades, trades_logits, {"depth": 10, "width": 1}),
    "sub_block1": ("trades-wrn", lambda: trades(sub_block=True), trades_logits, {"depth": 10, "width": 1}),
    "no bias": ("trades-wrn", lambda: trades(bias=False), trades_logits, {"depth": 10, "width": 1}),
    "deepmind": ("dm-wrn", lambda: dm_wide(16, 2), dm_wide_logits, {"depth": 16, "width": 2}),
    "MeanSparse": (
        "dm-wrn",
        lambda: dm_wide(sparse=True),
        dm_wide_logits,
        {"depth": 10, "width": 1, "mean_sparse": True},
    ),
    "deepmind preact": ("dm-preact-resnet", dm_preact, dm_preact_logits, {"depth": 18, "width": 4}),
    "deepmind preact 34": ("dm-preact-resnet", lambda: dm_preact(34), dm_preact_logits, {"depth": 34, "width": 4}),
    "rice": (
        "rice-preact-resnet",
        lambda: resnet(preact=True, last_norm=True),
        preact_logits,
        {"depth": 18, "width": 4, "last_norm": True},
    ),
    "wong": (
        "rice-preact-resnet",
        lambda: resnet(preact=True),
        preact_logits,
        {"depth": 18, "width": 4, "last_norm": False},
    ),
    "preact 50": (
        "rice-preact-resnet",
        lambda: resnet(50, preact=True),
        preact_logits,
        {"depth": 50, "width": 4, "last_norm": False},
    ),
    "kuangliu": ("kuangliu-resnet", resnet, kuangliu_logits, {"depth": 18, "width": 4}),
    "kuangliu 34": ("kuangliu-resnet", lambda: resnet(34), kuangliu_logits, {"depth": 34, "width": 4}),
    "kuangliu 50": ("kuangliu-resnet", lambda: resnet(50), kuangliu_logits, {"depth": 50, "width": 4}),
}
