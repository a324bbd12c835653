"""Shift of a source's features under attack on its own images: measured once, and kept on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robust_transfer.cache import code_digest
from robust_transfer.checkpoint import Checkpoint, weights_hash
from robust_transfer.config import digest
from robust_transfer.data import Split, Task
from robust_transfer.remembered import recall, remember
from robust_transfer.run import Run
from robust_transfer.strategies.feature_shift import shifts_of
from robust_transfer.threat import Threat

IMAGES = 64
SHIFTS = "shifts"


def own_images(source: Checkpoint, tasks: Sequence[Task]) -> Split | None:
    """Images of ``tasks`` that the source itself was made with: val images where there are some, else training images.

    They are known by the fingerprints that its checkpoint keeps. None where no image is one of them.
    """
    if source.trained_on is None or not source.trained_on.levels:
        return None
    level = source.trained_on.levels[0]
    for known in (level.val, level.train):
        for task in tasks:
            for split in (task.val, task.train):
                mine = np.isin(split.fingerprints.exact, known.exact)
                if mine.any():
                    return split.subset(torch.from_numpy(np.flatnonzero(mine)))
    return None


def own_shifts(source: Checkpoint, tasks: Sequence[Task], threat: Threat, run: Run) -> Tensor | None:
    """Shifts ``|z(x') - z(x)|`` of up to 64 of the source's own images, float64 ``(m,)``; None where they are unknown.

    Kept by the weights of the features, the threat and the code; so later calls know them without the images.
    """
    classifier = source.classifier
    parts = [classifier.spec.name, classifier.spec.settings, classifier.spec.preprocessing, threat, run.seed]
    key = digest("feature shift", *parts, weights_hash(classifier.body), code_digest(Path(__file__).parents[1]))
    kept = recall(key).get(SHIFTS)
    if kept is not None:
        return torch.tensor(kept, dtype=torch.float64)
    images = own_images(source, tasks)
    if images is None:
        return None
    sample = images.sample(IMAGES, seed=run.seed, purpose="feature-shift").prepared(source.preprocessing)
    shifts = torch.cat([shift.norm(dim=1) for shift in shifts_of(classifier, sample, threat, run)])
    remember(key, **{SHIFTS: shifts.tolist()})
    return shifts
