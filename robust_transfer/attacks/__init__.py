"""Attacks, one file each. Importing this package registers them."""

from robust_transfer.attacks.base import ATTACKS, Attack, AttackResult, Target
from robust_transfer.attacks.fgsm import FGSM
from robust_transfer.attacks.pgd import PGD

__all__ = ["ATTACKS", "FGSM", "PGD", "Attack", "AttackResult", "Target"]
