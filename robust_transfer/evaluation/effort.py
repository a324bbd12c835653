"""What an attack takes, about: enough to say how long it will be, and whether preparing for it pays."""

from __future__ import annotations

from collections.abc import Sequence

from robust_transfer.attacks.base import Attack

STANDING = 0.4  # share of an attack's steps that are taken, as examples leave when they are broken: about


def effort(attacks: Sequence[Attack]) -> float:
    """Forward-equivalent image passes that an image takes, roughly."""
    return sum(_effort(attack) for attack in attacks)


def _effort(attack: Attack) -> float:
    return 3.0 + STANDING * (2.0 * attack.most_steps + float(getattr(attack, "queries", 0)))
