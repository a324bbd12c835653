"""Ranking of sources for a task in seconds: accuracies of a probe that are predicted without any attack on the target."""

from robust_transfer.ranking.ranker import rank
from robust_transfer.ranking.ranking import Own, Ranked, Ranking, Shift

__all__ = ["Own", "Ranked", "Ranking", "Shift", "rank"]
