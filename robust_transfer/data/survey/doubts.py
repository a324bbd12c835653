"""Doubts about a split as a whole: one class, classes without images, images that are all alike or show nothing."""

from __future__ import annotations

import numpy as np

from robust_transfer.data.formats.base import listed
from robust_transfer.data.survey.description import SplitDescription
from robust_transfer.data.survey.look import Looks


def doubts(split: SplitDescription, looks: Looks) -> list[str]:
    """Sentences, none for a split that nothing is wrong with."""
    there, empty = ([name for name, count in split.classes.items() if (count > 0) is full] for full in (True, False))
    whole, found = looks.whole, list[str]()
    if len(there) == 1:
        found.append(f"all images are of one class, {there[0]!r}: there is nothing to tell apart")
    elif empty and there:
        found.append(f"there is no image of {listed(empty)}: such a class is never learnt, nor tested")
    if len(whole) < 2:
        return found
    blank = int(looks.constant[whole].sum())
    if len(np.unique(looks.prints.take(whole).exact)) == 1:
        found.append(f"all {len(whole)} images are the same picture: there is nothing to tell apart")
    elif 2 * blank > len(whole):
        found.append(f"{blank} of {len(whole)} images are of one colour each, and show nothing")
    return found
