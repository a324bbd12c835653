"""Learning rate that robust accuracy decides (Xu et al. 2024, AutoLoRa): halved at checkpoints, as Auto-PGD halves its step."""

from __future__ import annotations

from collections.abc import Sequence

# Shares of the epochs after which the rate may be halved: those of the released code, 16 to 48 of 50.
CHECKPOINTS = (0.32, 0.48, 0.56, 0.72, 0.80, 0.84, 0.88, 0.92, 0.96)
RISING = 0.75  # share of the epochs since the last checkpoint in which accuracy rises, if all is well


def halvings(scores: Sequence[float], epochs: int) -> list[int]:
    """Epochs (from 1) after which the rate is halved, by the ``scores`` on val of the first ones of ``epochs``.

    At a checkpoint it is, where scores rose in less than three quarters of the epochs since the last checkpoint; or where
    the best is still that of the last checkpoint, and the rate was not halved there.
    """
    halved, last, best = list[int](), 0, float("-inf")
    for checkpoint in sorted({round(share * epochs) for share in CHECKPOINTS} - {0}):
        if len(scores) <= checkpoint:
            break
        rises = sum(scores[epoch + 1] > scores[epoch] for epoch in range(last, checkpoint))
        now, before = max(scores[: checkpoint + 1]), last + 1 in halved
        if rises < RISING * (checkpoint - last) or (now <= best and not before):
            halved.append(checkpoint + 1)
        last, best = checkpoint, now
    return halved
