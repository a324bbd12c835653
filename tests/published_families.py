"""A small network of each family, by its writers or written after them: its state, and the logits that it computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import timm
import torch
import torchvision
from foreign_helpers import randomised
from published import CASES
from published_clip import SIZE as CLIP_SIZE
from published_clip import embeddings, tower
from published_convstem import convnext, convnext_shapes, drawn
from torch import Tensor, nn

State = dict[str, Tensor]


@dataclass(frozen=True)
class Author:
    """``forward(state, x)`` in float64 of normalised images ``(n, 3, size, size)``; ``settings`` are what no file tells."""

    family: str
    make: Callable[[], State]
    forward: Callable[[State, Tensor], Tensor]
    size: int = 32
    settings: dict[str, Any] = field(default_factory=dict)


def _of_case(case: str, **chosen: Any) -> Author:
    family, make, forward, _ = CASES[case]

    def state() -> State:
        return {key: value.float() if value.is_floating_point() else value for key, value in make().items()}

    return Author(family, state, lambda s, x: forward(s, x, **chosen), settings=chosen)


def _of_module(family: str, make: Callable[[], nn.Module], size: int, **settings: Any) -> Author:
    """A network of a library, run by the library."""

    @cache
    def module() -> nn.Module:
        torch.manual_seed(0)
        return randomised(make())

    def forward(state: State, x: Tensor) -> Tensor:
        made = module().double()
        made.load_state_dict(state, strict=True)
        logits: Tensor = made(x)
        return logits

    return Author(
        family, lambda: {k: v.clone() for k, v in module().float().state_dict().items()}, forward, size, settings
    )


WIDTHS, DEPTHS, DIMS = [8, 16], [1, 1, 2, 1], [16, 24, 32, 40]
AUTHORS: dict[str, Author] = {
    "trades": _of_case("sub_block1", activation="relu"),
    "hypersphere": _of_case("no bias", activation="relu", cosine=True),
    "deepmind": _of_case("deepmind", activation="silu", padding="asymmetric"),
    "MeanSparse": _of_case("MeanSparse", activation="silu", padding="asymmetric"),
    "deepmind preact": _of_case("deepmind preact", activation="silu", padding="asymmetric"),
    "rice": _of_case("rice", activation="relu", shortcut="activated"),
    "wong": _of_case("wong", activation="relu", shortcut="input"),
    "kuangliu": _of_case("kuangliu", activation="relu"),
    "torchvision": _of_module("torchvision", lambda: torchvision.models.shufflenet_v2_x0_5(num_classes=10), 64),
    "timm": _of_module("timm", lambda: timm.create_model("test_vit", num_classes=10), 160),
    "xcit": _of_module("xcit", lambda: timm.create_model("xcit_nano_12_p16_224", num_classes=10), 32, patch=16),
    "convstem": Author(
        "convstem",
        lambda: drawn(convnext_shapes(WIDTHS, DEPTHS, DIMS, 10)),
        lambda s, x: convnext(s, [2, 2], DEPTHS, x),
        64,
    ),
    "clip": Author("clip", tower, lambda s, x: embeddings(s, x, quick=True), CLIP_SIZE, {"quick_gelu": True}),
}
