"""Evaluation: clean and robust accuracy with intervals, per-example outcomes, and their verification."""

from robust_transfer.evaluation.evaluator import evaluate
from robust_transfer.evaluation.result import Evaluation, load_evaluation
from robust_transfer.evaluation.transfer_attacks import Transferred
from robust_transfer.evaluation.verification import Verification, verify

__all__ = ["Evaluation", "Transferred", "Verification", "evaluate", "load_evaluation", "verify"]
