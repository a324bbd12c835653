"""Default sample sizes for red flags and transfer attacks.

Together they may take about as many image passes as the attack itself, but samples are never too small for a flag to
mean something. Sizes are computed from the settings alone: the same call has the same sizes on every machine.
"""

from __future__ import annotations

from robust_transfer.evaluation.adversary import Adversary
from robust_transfer.evaluation.effort import effort
from robust_transfer.evaluation.red_flags import MIN_SAMPLE, passes_each

RED_FLAGS, TRANSFER_ATTACKS = 64, 200  # of a thorough evaluation; beyond these more images tell little more


def red_flag_examples(adversary: Adversary, n: int, examining: float, *, thorough: bool = False) -> int:
    """Number of ``n`` images to check for red flags; ``examining``: passes per image of transfer attacks, 0 if none is run."""
    if thorough:
        return RED_FLAGS
    both = passes_each(adversary) + examining
    return _within(int(_allowed(adversary, n) / both), RED_FLAGS)


def transfer_attack_examples(adversary: Adversary, n: int, examining: float, checked: int, *, thorough: bool) -> int:
    """Number of images for transfer attacks: the passes left over by the ``checked`` images of the red flags."""
    if thorough or not examining:
        return TRANSFER_ATTACKS
    left = _allowed(adversary, n) - checked * passes_each(adversary)
    return _within(int(left / examining), TRANSFER_ATTACKS)


def _allowed(adversary: Adversary, n: int) -> float:
    return n * effort(adversary.attacks)


def _within(images: int, most: int) -> int:
    return min(most, max(MIN_SAMPLE, images))
