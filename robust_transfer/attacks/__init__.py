"""Attacks, one file each. Importing this package registers them."""

from robust_transfer.attacks.base import ATTACKS, Attack, AttackResult, Worst
from robust_transfer.attacks.fgsm import FGSM
from robust_transfer.attacks.naming import SUITES, attack_name, parse_attack
from robust_transfer.attacks.pgd import PGD
from robust_transfer.attacks.target import Target
from robust_transfer.attacks.worst_case import WorstCase, worst_case

__all__ = [
    "ATTACKS",
    "FGSM",
    "PGD",
    "SUITES",
    "Attack",
    "AttackResult",
    "Target",
    "Worst",
    "WorstCase",
    "attack_name",
    "parse_attack",
    "worst_case",
]
