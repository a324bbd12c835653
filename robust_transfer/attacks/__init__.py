"""Attacks, one file each. Importing this package registers them."""

from robust_transfer.attacks.apgd import APGD
from robust_transfer.attacks.apgd_t import TargetedAPGD
from robust_transfer.attacks.autoattack import PyAutoAttack
from robust_transfer.attacks.base import ATTACKS, Attack, AttackResult, BestSoFar
from robust_transfer.attacks.feature_loss import FeatureLoss
from robust_transfer.attacks.fgsm import FGSM
from robust_transfer.attacks.naming import SUITES, attack_name, parse_attack
from robust_transfer.attacks.pgd import PGD
from robust_transfer.attacks.source_features import SourceFeatures
from robust_transfer.attacks.square import Square
from robust_transfer.attacks.stand_in import ThroughStandIn
from robust_transfer.attacks.through_parts import ThroughParts
from robust_transfer.attacks.victim import Knowledge, Victim

__all__ = [
    "APGD",
    "ATTACKS",
    "FGSM",
    "PGD",
    "SUITES",
    "Attack",
    "AttackResult",
    "FeatureLoss",
    "Knowledge",
    "PyAutoAttack",
    "SourceFeatures",
    "Square",
    "Victim",
    "TargetedAPGD",
    "ThroughParts",
    "ThroughStandIn",
    "BestSoFar",
    "attack_name",
    "parse_attack",
]
