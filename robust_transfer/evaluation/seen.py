"""Overlap between evaluated and training images: counted by fingerprints, with figures without them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.data import Split
from robust_transfer.data.duplicates import find_copies
from robust_transfer.data.fingerprints import Fingerprints
from robust_transfer.evaluation.outcomes import CLEAN, SURVIVED
from robust_transfer.statistics.intervals import Proportion, wilson

How = Literal["trained on", "chosen by"]
UNKNOWN = "whether images were trained on"


@dataclass(frozen=True)
class Seen:
    """``images`` of the ``n`` evaluated ones that were ``how`` ("trained on" or "chosen by") ``by`` a network.

    ``exact`` of them to the pixel, the others re-encoded or resized. ``unseen``: images that neither the model nor
    any of its sources has seen. The accuracies are over these; None where there are none.
    """

    by: str
    how: How
    images: int
    exact: int
    n: int
    clean_accuracy: Proportion | None
    robust_accuracy: Proportion | None
    unseen: int | None = None  # evaluations of earlier versions do not tell

    def flag(self, split: str, clean: Proportion, robust: Proportion) -> str:
        """Red flag for an evaluation with these accuracies over all its images."""
        what = {
            "trained on": f"{self.images} of {self.n} {split} images were trained on (by {self.by})",
            "chosen by": f"{self.images} of {self.n} {split} images are of the val split that {self.by} was chosen by",
        }[self.how]
        without = "without them" if self.unseen in (None, self.n - self.images) else "without all that were seen"
        if self.clean_accuracy is None or self.robust_accuracy is None:
            return f"{what}: clean {_percent(clean)}, robust {_percent(robust)}; {without} nothing is left"
        left = f"clean {_percent(clean)}, {without} {_percent(self.clean_accuracy)}"
        return f"{what}: {left}; robust {_percent(robust)}, {without} {_percent(self.robust_accuracy)}"


def look_for_seen(model: Checkpoint, split: Split, table: pd.DataFrame) -> tuple[list[Seen], list[str]]:
    """Images of ``split`` seen by ``model`` and its sources, and what is untested; ``table`` has the outcomes by row."""
    known = model.trained_on
    if known is None:
        return [], [f"{UNKNOWN}: the card has no fingerprints"]
    broken_by, prints = table["broken_by"].to_numpy(), split.fingerprints
    copies = [(by, how, find_copies(prints, theirs)) for by, how, theirs in _levels(model)]
    unseen = ~np.any([each.found for _, _, each in copies], axis=0)
    found = [
        Seen(
            by=by,
            how=how,
            images=int(each.found.sum()),
            exact=int(each.exact.sum()),
            n=len(broken_by),
            clean_accuracy=_share(broken_by[unseen] != CLEAN),
            robust_accuracy=_share(broken_by[unseen] == SURVIVED),
            unseen=int(unseen.sum()),
        )
        for by, how, each in copies
        if each.found.any()
    ]
    untested = [] if known.complete else [f"{UNKNOWN} by the model's sources: a source's card has no fingerprints"]
    return found, untested


def _levels(model: Checkpoint) -> Iterator[tuple[str, How, Fingerprints]]:
    assert model.trained_on is not None
    for depth, level in enumerate(model.trained_on.levels):
        by = "the model" if depth == 0 else "its source" + "'s source" * (depth - 1)
        yield by, "trained on", level.train
        if depth == 0:
            yield by, "chosen by", level.val


def _share(right: NDArray[np.bool_]) -> Proportion | None:
    return wilson(int(right.sum()), len(right)) if len(right) else None


def _percent(share: Proportion) -> str:
    return f"{100 * share.value:.1f} %"
