"""Attention of a small vision transformer whose queries and keys are large, in three precisions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from record import Count
from torch import nn

SCALES = (1.0, 1e2, 1e3, 1e4, 1e9, 1e18)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def transformer(scale: float, fused: bool, seed: int = 0) -> nn.Module:
    """Two blocks of 64 channels on 32 pixels, queries and keys times ``scale``."""
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(seed)
    network: nn.Module = VisionTransformer(
        img_size=32, patch_size=8, embed_dim=64, depth=2, num_heads=2, num_classes=10
    )
    blocks: Any = network.blocks
    for block in blocks:
        attention = block.attn
        attention.fused_attn = fused
        attention.qkv.weight.data[:128] *= scale
    return network


def cases() -> Iterator[Mapping[str, Any]]:
    """Whether logits and gradients are finite, for each scale, kernel and precision."""
    generator = torch.Generator().manual_seed(1)
    images, labels = torch.rand(8, 3, 32, 32, generator=generator), torch.arange(8)
    for fused in (True, False):
        for scale in SCALES:
            for dtype in DTYPES:
                network, x = transformer(scale, fused), images.clone().requires_grad_()
                with torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
                    logits = network(x)
                F.cross_entropy(logits.float(), labels).backward()
                gradients = [p.grad for p in (x, *network.parameters()) if p.grad is not None]
                finite = bool(logits.isfinite().all()) and all(bool(g.isfinite().all()) for g in gradients)
                name = str(dtype).removeprefix("torch.")
                yield {"trouble": "attention", "scale": scale, "fused": fused, "precision": name, "finite": finite}


def counts(found: Sequence[Mapping[str, Any]]) -> tuple[Count, ...]:
    """How many of the settings overflow in each precision; float16 is none of the package's."""
    names = [str(dtype).removeprefix("torch.") for dtype in DTYPES]
    each = {name: [case for case in found if case["precision"] == name] for name in names}
    return tuple(
        Count(f"attention that overflows in {name}, of {len(some)} settings", sum(not c["finite"] for c in some))
        for name, some in each.items()
    )
