"""The grid of mixtures: clean accuracy as the mixture itself has it, robust accuracy whatever the natural network says."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from robust_transfer.mixed_head import raised
from robust_transfer.strategies.mixing_grid import Looks

N, K = 200, 6
DRAWN = torch.randn(3, N, K, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(K, (N,), generator=torch.Generator().manual_seed(1))
ATTACKED = DRAWN[2] + 1.5 * torch.nn.functional.one_hot(LABELS, K)
LOOKS = Looks(
    robust=DRAWN[0] + 2 * torch.nn.functional.one_hot(LABELS, K),
    natural=DRAWN[1] + 4 * torch.nn.functional.one_hot(LABELS, K),
    attacked=ATTACKED,
    standing=(ATTACKED.argmax(1) == LABELS) & (torch.arange(N) % 9 > 0),  # some are broken in other ways
    labels=LABELS,
)
GRID = {"shares": (0.55, 0.8, 1.0), "spreads": (3.0, 20.0), "powers": (1.0, 3.0), "shifts": (-0.5, 0.0)}


def test_every_mixture_is_judged_as_its_worst_partner_would_have_it() -> None:
    found = list(LOOKS.estimates(**GRID))
    assert len({estimate.how for estimate in found}) == len(found) == 24
    for estimate in found:
        how = estimate.how
        numbers = torch.tensor(how.power), torch.tensor(how.shift)
        h = (how.scale * raised(LOOKS.robust, *numbers)).softmax(1)
        clean = (1 - how.share) * LOOKS.natural.softmax(1) + how.share * h
        assert estimate.clean == pytest.approx(float((clean.argmax(1) == LABELS).float().mean()))
        stands = torch.ones(N, dtype=torch.bool)
        attacked = how.share * (how.scale * raised(LOOKS.attacked, *numbers)).softmax(1)
        for other in range(K):  # the natural network is sure of any one class
            p = attacked.clone()
            p[:, other] += 1 - how.share
            own = p.gather(1, LABELS[:, None])[:, 0]
            rest = p.scatter(1, LABELS[:, None], -1.0).amax(1)
            stands &= own > rest
        assert estimate.robust == pytest.approx(float((stands & LOOKS.standing).float().mean()))
    assert LOOKS.kept == pytest.approx(float(LOOKS.standing.float().mean()))
    whole = [estimate for estimate in found if estimate.how.share == 1]
    assert {estimate.robust for estimate in whole} == {LOOKS.kept}  # the map keeps the order of the logits


def test_the_spread_is_that_of_the_median_image() -> None:
    for estimate in LOOKS.estimates((0.6,), (7.0,), (1.0, 4.0), (-1.0, 0.0)):
        how = estimate.how
        logits = how.scale * raised(LOOKS.robust, torch.tensor(how.power), torch.tensor(how.shift))
        assert float((logits.amax(1) - logits.amin(1)).median()) == pytest.approx(7.0, rel=1e-4)


def test_weights_count() -> None:
    only = torch.zeros(N, dtype=torch.float64)
    only[3] = 1.0
    weighted = dataclasses.replace(LOOKS, weights=only)
    assert weighted.kept == float(LOOKS.standing[3])
    assert {estimate.clean for estimate in weighted.estimates(**GRID)} <= {0.0, 1.0}
