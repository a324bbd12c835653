"""XCiT with patches smaller than its stem's (Debenedetti et al. 2023, arXiv:2209.07399, section 3).

The stem of XCiT is a stack of 3x3 convolutions with stride 2, one for each halving of the image. For smaller patches
the first of them get stride 1: the weights and their names stay the same.
"""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from robust_transfer.networks.names import register


def xcit(
    num_classes: int,
    in_chans: int,
    embed_dim: int = 384,
    depth: int = 12,
    num_heads: int = 8,
    stem: int = 16,
    patch: int | None = None,
    **settings: Any,
) -> nn.Module:
    """XCiT (El-Nouby et al. 2021) with tokens of ``patch`` x ``patch`` pixels, from the stem of one of ``stem`` (16 or 8).

    By default the patches are the stem's own. The nano network (``embed_dim`` 128) does not normalise its tokens at the
    end, as in timm and the paper. Other ``settings`` are those of timm's Xcit.
    """
    from timm.models.xcit import Xcit

    patch = stem if patch is None else patch
    if stem not in (8, 16) or patch not in (1, 2, 4, 8, 16) or patch > stem:
        raise ValueError(f"patch must be a power of two up to the stem's {stem} (8 or 16), not {patch}")
    made: nn.Module = Xcit(
        patch_size=stem,
        in_chans=in_chans,
        num_classes=num_classes,
        embed_dim=embed_dim,
        depth=depth,
        num_heads=num_heads,
        **{"eta": 1.0, "tokens_norm": embed_dim != 128, **settings},
    )
    patches: Any = made.patch_embed
    convolutions = [part for part in patches.proj.modules() if isinstance(part, nn.Conv2d)]
    for convolution in convolutions[: int(math.log2(stem // patch))]:
        convolution.stride = (1, 1)
    patches.patch_size = patch
    return made


__all__: list[str] = []
NETWORKS = {"xcit": "XCiT, with patches of 16, 8, 4 or 2 pixels from one stem"}
register("xcit", NETWORKS["xcit"], xcit, __name__)
