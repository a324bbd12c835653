"""What robust features are like (Shafahi et al. 2020, section 5): how an attack moves them, what they see and keep."""

from robust_transfer.analysis.layers import feature_distances
from robust_transfer.analysis.pictures import maximise, reconstruct

__all__ = ["feature_distances", "maximise", "reconstruct"]
