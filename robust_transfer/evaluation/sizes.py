"""On how many images an evaluation looks for red flags and tries transfer attacks, where nobody says so.

Together they may take about as many image passes as the attack that is asked for, but the samples are never smaller than
what makes a flag worth something. Counted from the settings alone: the same call has the same sizes anywhere.
"""

from __future__ import annotations

from robust_transfer.evaluation.adversary import Adversary
from robust_transfer.evaluation.effort import effort
from robust_transfer.evaluation.red_flags import MIN_SAMPLE, passes_each

RED_FLAGS, TRANSFER_ATTACKS = 64, 200  # of a thorough evaluation; beyond these more images tell little more


def red_flag_examples(adversary: Adversary, n: int, examining: float, *, thorough: bool = False) -> int:
    """Images to look for red flags on, of ``n``; a transfer attack takes ``examining`` passes an image, 0 if none is tried."""
    if thorough:
        return RED_FLAGS
    both = passes_each(adversary) + examining
    return _within(int(_allowed(adversary, n) / both), RED_FLAGS)


def transfer_attack_examples(adversary: Adversary, n: int, examining: float, checked: int, *, thorough: bool) -> int:
    """Images to try transfer attacks on: what the red flags' ``checked`` images leave of the passes."""
    if thorough or not examining:
        return TRANSFER_ATTACKS
    left = _allowed(adversary, n) - checked * passes_each(adversary)
    return _within(int(left / examining), TRANSFER_ATTACKS)


def _allowed(adversary: Adversary, n: int) -> float:
    return n * effort(adversary.attacks)


def _within(images: int, most: int) -> int:
    return min(most, max(MIN_SAMPLE, images))
