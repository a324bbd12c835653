"""States of ResNets in the layouts of kuangliu, Rice and DeepMind, and their logits, in plain functions."""

from __future__ import annotations

from published_parts import ACTIVATIONS, State, Writer, conv, linear, norm
from torch import Tensor

RESNETS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


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
