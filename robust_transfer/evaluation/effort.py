"""Rough cost model of an attack, for time estimates and the decision to compile."""

from __future__ import annotations

from collections.abc import Sequence

from robust_transfer.attacks.base import Attack


def effort(attacks: Sequence[Attack]) -> float:
    """Forward-equivalent image passes that an image takes, roughly."""
    return sum(attack.passes for attack in attacks)
