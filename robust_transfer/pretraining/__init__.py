"""Pretraining methods, one file each. Importing this package registers them."""

from robust_transfer.pretraining.base import PRETRAINING, Pretraining, pretrain
from robust_transfer.pretraining.cartl import CARTL
from robust_transfer.pretraining.fare import FARE
from robust_transfer.pretraining.fast import Fast
from robust_transfer.pretraining.free import Free
from robust_transfer.pretraining.natural import Natural
from robust_transfer.pretraining.noise import Noise
from robust_transfer.pretraining.pgd_at import PGDAT
from robust_transfer.pretraining.trades import Trades

__all__ = [
    "CARTL",
    "FARE",
    "PGDAT",
    "PRETRAINING",
    "Fast",
    "Free",
    "Natural",
    "Noise",
    "Pretraining",
    "Trades",
    "pretrain",
]
