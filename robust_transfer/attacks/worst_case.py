"""Several attacks on one batch: each later one attacks only what the earlier ones left standing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robust_transfer.attacks.base import Attack, AttackResult, Knowledge
from robust_transfer.threat import Threat

STANDS, WRONG_WHEN_CLEAN = -1, -2


@dataclass(frozen=True)
class WorstCase:
    """The worst result per example, and ``by`` ``(B,)``: which attack broke it, or STANDS or WRONG_WHEN_CLEAN."""

    result: AttackResult
    by: Tensor


def worst_case(
    attacks: Sequence[Attack],
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    ids: Tensor,
    threat: Threat,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    knowledge: Knowledge | None = None,
) -> WorstCase:
    """Run ``attacks`` (at least one) in order; arguments as for :meth:`Attack.__call__`.

    An example that withstands them all keeps the adversarial image with the largest margin.
    """
    first = attacks[0](model, x, labels, ids, threat, seed=seed, dtype=dtype, knowledge=knowledge)
    adversarial, broken, margin = first.adversarial.clone(), first.broken.clone(), first.margin.clone()
    prediction, passes = first.prediction.clone(), first.passes
    by = torch.where(broken, 0, STANDS)
    by[first.clean_prediction != labels] = WRONG_WHEN_CLEAN
    for number, attack in enumerate(attacks[1:], start=1):
        rows = (~broken).nonzero().squeeze(1)
        result = attack(model, x[rows], labels[rows], ids[rows], threat, seed=seed, dtype=dtype, knowledge=knowledge)
        worse = result.broken | (result.margin > margin[rows])
        better = rows[worse]
        adversarial[better], margin[better] = result.adversarial[worse], result.margin[worse]
        prediction[better], broken[rows] = result.prediction[worse], result.broken
        by[rows[result.broken]] = number
        passes += result.passes
    return WorstCase(AttackResult(adversarial, broken, margin, first.clean_prediction, prediction, passes), by)
