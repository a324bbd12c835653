"""Weight interpolation between two checkpoints of one network: a control that costs nothing to train."""

from __future__ import annotations

from dataclasses import replace

import torch

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.errors import CheckpointError


def interpolate(a: Checkpoint, b: Checkpoint, share: float) -> Checkpoint:
    """``(1 - share) * a + share * b`` over weights and buffers, ``share`` in [0, 1] (Wortsman et al. 2022, WiSE-FT)."""
    first, second = a.classifier.state_dict(), b.classifier.state_dict()
    if {k: v.shape for k, v in first.items()} != {k: v.shape for k, v in second.items()}:
        raise CheckpointError("only checkpoints of the same network and classes can be interpolated")
    mixed = {k: torch.lerp(v, second[k], share) if v.is_floating_point() else v for k, v in first.items()}
    classifier = a.classifier.copy()
    classifier.load_state_dict(mixed, strict=True)
    card = replace(
        a.card,
        method=f"interpolation:{share:g}",
        settings={"share": share, "a": a.card.method, "b": b.card.method},
        cost=a.card.cost + b.card.cost,
        events=(),
        metrics={},
    )
    return Checkpoint(classifier.eval(), card)
