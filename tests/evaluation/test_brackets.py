"""Brackets, on a model whose every breaking budget is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from attack_helpers import Function
from helpers import QUIET
from numpy.typing import NDArray

from robust_transfer.attacks import parse_attack
from robust_transfer.data import Split
from robust_transfer.evaluation.adversary import Adversary
from robust_transfer.evaluation.brackets import _grid, brackets
from robust_transfer.evaluation.curve import Budgets
from robust_transfer.threat import Threat

VALUES = torch.arange(40, 216, 5)
DISTANCE = ((VALUES - 127.5).abs() / 255).numpy()  # to the boundary: what it takes to break a grey image
OWN = 10.3 / 255  # no distance lies on its grid


def budgets() -> Budgets:
    """Grey images that a model tells apart by their brightness; the first one has the wrong label."""
    images = VALUES.byte().view(-1, 1, 1, 1).repeat(1, 3, 4, 4)
    labels = (VALUES > 127.5).long()
    labels[0] = 1
    split = Split.in_memory(images, labels, ("dark", "bright"))
    model = Function(lambda x: torch.stack([0 * x.flatten(1).mean(1), 20 * (x.flatten(1).mean(1) - 0.5)], 1))
    return Budgets(Adversary(parse_attack("fgsm"), Threat(norm="linf", eps=OWN)), model, split, QUIET)


class Counted(Budgets):
    """Budgets that count the images that are attacked."""

    attacked = 0

    def broken_by(self, rows: NDArray[np.int_], eps: float) -> NDArray[np.str_]:
        self.attacked += len(rows)
        return super().broken_by(rows, eps)


def found(guesses: Any, most: float = 1.0) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    counted = Counted(**vars(budgets()))
    low, high = brackets(counted, np.broadcast_to(guesses, DISTANCE.shape).astype(float), most)
    return low, high, counted.attacked


@pytest.mark.parametrize("off", [0.0, 1e-6, 0.5, 0.97, 1.0, 1.04, 2.0, 30.0, np.inf])
def test_any_guess_leads_to_the_same_brackets(off: float) -> None:
    """The neighbours on the grid between which the true distance lies: counted here from the grid's definition."""
    low, high, _ = found(np.full_like(DISTANCE, np.inf) if off == np.inf else off * DISTANCE)
    steps = [OWN * k / 64 for k in range(65)]
    for start in (OWN, 2 * OWN, 4 * OWN, 8 * OWN):
        steps += [start + start * k / 64 for k in range(1, 65)]
    for row, distance in enumerate(DISTANCE[1:], 1):
        assert low[row] == pytest.approx(max(step for step in steps if step < distance))
        assert high[row] == pytest.approx(min(step for step in steps if step > distance))
    assert (low[0], high[0]) == (0, 0), "what is wrong when clean needs nothing"


def test_a_good_guess_needs_fewer_attacks() -> None:
    near, far = found(DISTANCE * 1.01)[2], found(np.inf)[2]
    assert near < 5 * len(DISTANCE)
    assert near < far / 2


def test_what_stands_everywhere_is_attacked_with_the_most() -> None:
    low, high, _ = found(np.inf, most=OWN * 3)
    for row, distance in enumerate(DISTANCE[1:], 1):
        if distance > OWN * 3:
            assert (low[row], high[row]) == (pytest.approx(OWN * 3), np.inf)
        else:
            assert low[row] < distance < high[row]
    assert np.isinf(high).sum() > 3


def test_the_grid_ends_at_the_most() -> None:
    assert len(_grid(0.25, 1.0)) == 3 * 64 + 1
    assert _grid(0.25, 1.0)[[0, 1, 64, 65, 128, 192]].tolist() == [0, 1 / 256, 0.25, 0.25 + 1 / 256, 0.5, 1.0]
    assert _grid(0.4, 1.0)[[64, 128, 192]].tolist() == [0.4, 0.8, 1.0]
    assert _grid(2.0, 1.0)[-1] == 2.0
