"""scikit-learn interface: an estimator of arrays of images."""

from robust_transfer.estimator.classifier import RobustTransferClassifier

__all__ = ["RobustTransferClassifier"]
