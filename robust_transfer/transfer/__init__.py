"""Transfer strategies, one file each. Importing this package registers them."""

from robust_transfer.transfer.base import STRATEGIES, Strategy, transfer
from robust_transfer.transfer.features import features_of
from robust_transfer.transfer.fine_tune import FineTune
from robust_transfer.transfer.interpolation import interpolate
from robust_transfer.transfer.linear_probe import LinearProbe
from robust_transfer.transfer.lwf import LwF

__all__ = ["STRATEGIES", "FineTune", "LinearProbe", "LwF", "Strategy", "features_of", "interpolate", "transfer"]
