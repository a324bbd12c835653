"""Evaluation: clean and robust accuracy with intervals, what became of every example, and how to check it again."""

from robust_transfer.evaluation.evaluator import evaluate
from robust_transfer.evaluation.result import Evaluation, load_evaluation
from robust_transfer.evaluation.transfer_attacks import Transferred
from robust_transfer.evaluation.verification import Verification, verify

__all__ = ["Evaluation", "Transferred", "Verification", "evaluate", "load_evaluation", "verify"]
