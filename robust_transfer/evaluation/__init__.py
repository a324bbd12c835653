"""Evaluation: clean and robust accuracy with intervals, what became of every example, and how to check it again."""

from robust_transfer.evaluation.measure import evaluate
from robust_transfer.evaluation.record import Evaluation, load_evaluation
from robust_transfer.evaluation.transferred import Transferred
from robust_transfer.evaluation.verification import Verification, verify

__all__ = ["Evaluation", "Transferred", "Verification", "evaluate", "load_evaluation", "verify"]
