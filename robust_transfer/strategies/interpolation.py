"""Weight interpolation between two checkpoints of one network: a control that costs nothing to train."""

from __future__ import annotations

from dataclasses import replace

import torch

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.errors import CheckpointError, ConfigError
from robust_transfer.provenance import Mixture
from robust_transfer.trained_on import merged


def interpolate(a: Checkpoint, b: Checkpoint, share: float) -> Checkpoint:
    """``(1 - share) * a + share * b`` over weights and buffers, ``share`` in [0, 1] (Wortsman et al. 2022, WiSE-FT).

    The two must be one network with the same classes, else :class:`CheckpointError`. Counters (of the batches that batch
    norm has seen) are ``a``'s. The card counts what both cost and names both as sources.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"share must be between 0 and 1, not {share}")
    if a.card.network != b.card.network:
        raise CheckpointError("only checkpoints of the same network, at the same input size, can be interpolated")
    if a.card.class_names != b.card.class_names:
        raise CheckpointError("only checkpoints of the same classes, in the same order, can be interpolated")
    first, second = a.classifier.state_dict(), b.classifier.state_dict()
    mixed = {k: _between(v, second[k].to(v.device), share) for k, v in first.items()}
    classifier = a.classifier.copy()
    classifier.load_state_dict(mixed, strict=True)
    card = replace(
        a.card,
        method=f"interpolation:{share:g}",
        settings={"share": share, "a": a.card.method, "b": b.card.method},
        threat=a.card.threat if a.card.threat == b.card.threat else None,
        data=a.card.data if a.card.data == b.card.data else {"name": f"{_data(a)} and {_data(b)}"},
        source=Mixture(a=a.provenance, b=b.provenance),
        criterion=f"share given as {share:g}",
        metrics={},
        events=(),
        cost=a.card.cost + b.card.cost,
        weights_hash="",
        fingerprints={},
    )
    return Checkpoint(classifier.eval(), card, merged(a.trained_on, b.trained_on))


def _between(a: torch.Tensor, b: torch.Tensor, share: float) -> torch.Tensor:
    return torch.lerp(a, b, share) if a.is_floating_point() else a


def _data(checkpoint: Checkpoint) -> str:
    return str(checkpoint.card.data.get("name", "unknown data"))
