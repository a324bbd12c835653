"""Choice of a source and a strategy for a task within a time limit."""

from robust_transfer.choosing.choice import Choice, Judged, Rule, load_choice
from robust_transfer.choosing.chooser import Chosen, choose

__all__ = ["Choice", "Chosen", "Judged", "Rule", "choose", "load_choice"]
