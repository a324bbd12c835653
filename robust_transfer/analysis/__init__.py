"""Analysis of robust features (Shafahi et al. 2020, section 5): shift under attack, feature maximisation, inversion."""

from robust_transfer.analysis.layers import feature_distances
from robust_transfer.analysis.pictures import maximise, reconstruct

__all__ = ["feature_distances", "maximise", "reconstruct"]
