"""States as the authors of robust CIFAR networks save them, with random weights, and what their forward passes compute.

Written after the papers and the names in the public files, in plain functions of a dictionary: nothing of the package.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from published_parts import State, linear
from published_resnets import dm_preact, dm_preact_logits, kuangliu_logits, preact_logits, resnet
from published_wide import dm_wide, dm_wide_logits, trades, trades_logits
from torch import Tensor

__all__ = ["CASES", "State", "dm_preact", "dm_preact_logits", "dm_wide", "linear", "resnet", "trades"]

# Name -> family, state, logits, and settings that its keys and shapes tell.
Case = tuple[str, Callable[[], State], Callable[..., Tensor], dict[str, Any]]
CASES: dict[str, Case] = {
    "trades": ("trades-wrn", lambda: trades(16, 2), trades_logits, {"depth": 16, "width": 2}),
    "trades, width 1": ("trades-wrn", trades, trades_logits, {"depth": 10, "width": 1}),
    "sub_block1": ("trades-wrn", lambda: trades(sub_block=True), trades_logits, {"depth": 10, "width": 1}),
    "no bias": ("trades-wrn", lambda: trades(bias=False), trades_logits, {"depth": 10, "width": 1}),
    "deepmind": ("dm-wrn", lambda: dm_wide(16, 2), dm_wide_logits, {"depth": 16, "width": 2}),
    "deepmind, small": ("dm-wrn", dm_wide, dm_wide_logits, {"depth": 10, "width": 1}),
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
