"""Training: settings, objectives, resume state, and ``fit``, the one loop."""

from robust_transfer.training.batches import batch_order
from robust_transfer.training.eps_schedule import EpsSchedule
from robust_transfer.training.loop import FitResult, Validate, fit
from robust_transfer.training.objective import Batch, CachedRows, HeadPenalty, NaturalObjective, Objective
from robust_transfer.training.settings import TrainingSettings

__all__ = [
    "Batch",
    "EpsSchedule",
    "FitResult",
    "HeadPenalty",
    "CachedRows",
    "NaturalObjective",
    "Objective",
    "TrainingSettings",
    "Validate",
    "batch_order",
    "fit",
]
