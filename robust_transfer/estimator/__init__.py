"""Transfer as scikit-learn has it: an estimator of arrays of pictures."""

from robust_transfer.estimator.classifier import RobustTransferClassifier

__all__ = ["RobustTransferClassifier"]
