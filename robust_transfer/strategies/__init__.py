"""Transfer strategies, one file each. Importing this package registers them."""

from robust_transfer.strategies.adversarial import Adversarial
from robust_transfer.strategies.ard import ARD
from robust_transfer.strategies.autolora import AutoLoRa
from robust_transfer.strategies.base import STRATEGIES, Strategy, transfer
from robust_transfer.strategies.bitfit import BitFit
from robust_transfer.strategies.delta import Delta
from robust_transfer.strategies.features import features_of
from robust_transfer.strategies.fine_tune import FineTune
from robust_transfer.strategies.frontier import Frontier
from robust_transfer.strategies.interpolation import Interpolate, interpolate
from robust_transfer.strategies.l2_sp import L2SP
from robust_transfer.strategies.last_blocks import LastBlocks
from robust_transfer.strategies.linear_probe import LinearProbe
from robust_transfer.strategies.lora import LoRA
from robust_transfer.strategies.lp_ft import LPFT
from robust_transfer.strategies.lwf import LwF
from robust_transfer.strategies.merge import Merge
from robust_transfer.strategies.mix import Mix
from robust_transfer.strategies.mlp_head import MLPHead
from robust_transfer.strategies.neft import NEFT
from robust_transfer.strategies.norm_only import NormOnly
from robust_transfer.strategies.rift import RiFT
from robust_transfer.strategies.roli import RoLI
from robust_transfer.strategies.rslad import RSLAD
from robust_transfer.strategies.soup import Soup
from robust_transfer.strategies.trained import Trained
from robust_transfer.strategies.twins import Twins

__all__ = [
    "ARD",
    "AutoLoRa",
    "RSLAD",
    "RoLI",
    "Twins",
    "NormOnly",
    "LPFT",
    "L2SP",
    "BitFit",
    "STRATEGIES",
    "Adversarial",
    "Delta",
    "FineTune",
    "Frontier",
    "Interpolate",
    "LastBlocks",
    "LinearProbe",
    "LoRA",
    "LwF",
    "MLPHead",
    "NEFT",
    "Soup",
    "RiFT",
    "Merge",
    "Mix",
    "Strategy",
    "Trained",
    "features_of",
    "interpolate",
    "transfer",
]
