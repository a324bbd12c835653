"""Sample sizes where nobody gives any: from the settings alone, and in proportion to the attack."""

from __future__ import annotations

import pytest
from attack_helpers import LINF

from robust_transfer.attacks import parse_attack
from robust_transfer.evaluation.adversary import Adversary
from robust_transfer.evaluation.effort import effort
from robust_transfer.evaluation.flag_sample import MIN_FLAGGED
from robust_transfer.evaluation.red_flags import MIN_SAMPLE, UNCONVERGED, passes_each
from robust_transfer.evaluation.sizes import (
    RED_FLAGS,
    TRANSFER_ATTACKS,
    red_flag_examples,
    transfer_attack_examples,
)

EXAMINING = 200.0


def sizes(attack: str, n: int, *, thorough: bool = False) -> tuple[int, int, float, float]:
    adversary = Adversary(parse_attack(attack), LINF)
    checked = red_flag_examples(adversary, n, EXAMINING, thorough=thorough)
    examined = transfer_attack_examples(adversary, n, EXAMINING, checked, thorough=thorough)
    taken = checked * passes_each(adversary) + examined * EXAMINING
    return checked, examined, taken, n * effort(adversary.attacks)


@pytest.mark.parametrize("attack", ["fgsm", "pgd-20", "quick", "strong"])
def test_they_take_no_more_than_the_attack_or_are_the_smallest_that_tell_something(attack: str) -> None:
    found = [sizes(attack, n) for n in (10, 100, 863, 1000, 3000, 10_000, 10**6)]
    for checked, examined, taken, allowed in found:
        assert MIN_SAMPLE <= checked <= RED_FLAGS
        assert MIN_SAMPLE <= examined <= TRANSFER_ATTACKS
        assert taken <= allowed or MIN_SAMPLE in (checked, examined)
    assert found == sorted(found)  # more images, more to check
    assert found[0][:2] == (MIN_SAMPLE, MIN_SAMPLE) or attack == "strong"
    assert found[-1][:2] == (RED_FLAGS, TRANSFER_ATTACKS) == sizes(attack, 10, thorough=True)[:2]


def test_the_smallest_sample_is_the_one_whose_fewest_are_the_share_that_flags() -> None:
    assert MIN_SAMPLE * UNCONVERGED == MIN_FLAGGED
    assert (MIN_SAMPLE - 1) * UNCONVERGED < MIN_FLAGGED
