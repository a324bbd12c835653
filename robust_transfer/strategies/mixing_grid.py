"""Mixtures of two networks judged without attacking them: from both networks' logits, one of them attacked before.

The natural network is taken to say whatever the attacker likes (as Bai et al. 2024 do). Then an image that the robust
network gets right under attack stands in the mixture iff its margin of probabilities ``m`` outweighs the other's share,
``share * m > 1 - share``; clean accuracy needs no assumption.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from robust_transfer.data.weights import mean
from robust_transfer.losses import own_and_others
from robust_transfer.mixed_head import Mixing, mixed, raised


@dataclass(frozen=True)
class Estimate:
    """Mixture with its clean accuracy, and what it keeps under the attack whatever the natural network says."""

    how: Mixing
    clean: float
    robust: float


@dataclass(frozen=True)
class Looks:
    """Logits ``(n, K)`` of both networks on clean images, and of the robust one on images that attack it.

    ``standing`` ``(n,)``: what the robust network gets right under attack.
    """

    robust: Tensor
    natural: Tensor
    attacked: Tensor
    standing: Tensor
    labels: Tensor
    weights: Tensor | None = None

    @property
    def kept(self) -> float:
        """Share of the images that the robust network by itself gets right under attack."""
        return mean(self.standing, self.weights)

    def estimates(
        self, shares: Sequence[float], spreads: Sequence[float], powers: Sequence[float], shifts: Sequence[float]
    ) -> Iterator[Estimate]:
        """Every mixture of a grid.

        ``spreads``: by how much the sharpened logits of an image are apart, largest less smallest, on the median image. It
        sets the scale, whose meaning else depends on the power, the shift and the number of classes.
        """
        for power, shift in product(powers, shifts):
            numbers = torch.tensor(power), torch.tensor(shift)
            clean, attacked = raised(self.robust, *numbers), raised(self.attacked, *numbers)
            apart = float((clean.amax(1) - clean.amin(1)).median().clamp_min(1e-12))
            for spread in spreads:
                scale = spread / apart
                own, others = own_and_others((scale * attacked).softmax(1), self.labels)
                margin = torch.where(self.standing, own - others.amax(1), -1.0)
                for share in shares:
                    said = mixed(self.natural, scale * clean, torch.tensor(1 - share)).argmax(1)
                    yield Estimate(
                        Mixing(share=share, scale=scale, power=power, shift=shift),
                        clean=mean(said == self.labels, self.weights),
                        robust=mean(share * margin > 1 - share, self.weights),
                    )
