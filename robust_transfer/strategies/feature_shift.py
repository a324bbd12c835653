"""Shifts of a source's features under attack on its own data: the directions in which an attack moves them.

Their second moment weighs directions (:mod:`.metric`). The attack is on images of the source's training data, without their
labels; no image of the target is attacked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robust_transfer.attacks.source_features import feature_shift
from robust_transfer.cache import load_or_compute
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.config import as_dict, digest
from robust_transfer.cost import Cost
from robust_transfer.data import Split, Task, load_task, to_pixels
from robust_transfer.data.duplicates import find_copies
from robust_transfer.errors import ConfigError
from robust_transfer.run import Run
from robust_transfer.strategies.features import features_key
from robust_transfer.threat import Threat

IMAGES, STEPS, BATCH = 1000, 10, 100  # source images under attack, steps of Auto-PGD, and images in a pass
FLOOR = 0.1  # share of the metric that is the same in all directions
PASSES = IMAGES * (2.0 * STEPS + 2.0)  # forecast of the image passes


@dataclass(frozen=True)
class SourceShifts:
    """Second moment ``(d, d)`` of the shifts, float64, a note on the images for the card, and the cost of the attack."""

    moment: Tensor
    note: dict[str, Any]
    cost: Cost


def refuse_settings(setting: str, asked: bool, source_data: str | None, floor: float) -> None:
    """Raise :class:`ConfigError` unless ``source_data`` is given exactly where ``setting`` asks for shifts."""
    if asked and source_data is None:
        raise ConfigError(
            f"{setting} attacks images that the source was trained on, and they are not at hand: name them, source_data=..."
        )
    if source_data is not None and not asked:
        raise ConfigError(f"source_data has no effect without {setting}: leave it out, or give both")
    if not 0 < floor <= 1:
        raise ConfigError(f"shift_floor must be above 0 and at most 1, not {floor}")


def refuse_source(setting: str, source: Checkpoint) -> None:
    """Raise :class:`ConfigError` for a source without a threat to attack its features within."""
    if source.card.threat is None:
        raise ConfigError(f"{setting} needs a source with a threat on its card: the size of the attack on its features")


def source_shifts(source: Checkpoint, source_data: str, task: Task, run: Run) -> SourceShifts:
    """Shifts of the source's features on a sample of its training images, none of them the target's.

    Raises :class:`ConfigError` where the data are not the source's, or nothing moves.
    """
    threat = source.card.threat
    assert threat is not None  # refuse_source has looked
    images, known = _sample(source, source_data, task, run)
    key = digest(features_key(source.classifier, images, run), as_dict(threat), STEPS, run.seed) if run.cache else ""

    def attacked() -> dict[str, Tensor]:
        width = source.classifier.num_features
        moment = torch.zeros(width, width, dtype=torch.float64)
        for shift in shifts_of(source.classifier, images, threat, run):
            moment += shift.T @ shift / len(images)
        return {"moment": moment}

    moment = load_or_compute(run.cache, "shifts", key, attacked)["moment"]
    if not float(moment.trace()) > 0:
        raise ConfigError("the attack does not move the source's features: there are no directions to weigh")
    cost = Cost(passes=PASSES / IMAGES * len(images), adversarial_examples=len(images))
    note = {"images": len(images), "known_to_the_source": known, "hash": images.hash, "threat": str(threat)}
    return SourceShifts(moment, note, cost)


def shifts_of(classifier: Classifier, images: Split, threat: Threat, run: Run) -> Iterator[Tensor]:
    """Shifts of the features of ``images`` under attack, batch by batch: float64 ``(B, d)`` on the CPU."""
    model = classifier.copy().to(run.torch_device()).eval()
    for pixels, _, ids in images.batches(BATCH):
        x = to_pixels(pixels, model.device)
        _, shift = feature_shift(model, x, ids.to(x.device), threat, steps=STEPS, seed=run.seed)
        yield shift.cpu().double()


def _sample(source: Checkpoint, source_data: str, task: Task, run: Run) -> tuple[Split, int | None]:
    """Sample of the source's training images, and how many of it its fingerprints know (None: there are none)."""
    theirs = load_task(source_data).train
    if not len(theirs):
        raise ConfigError(f"source_data: {source_data} has no training images")
    sample, known = theirs.sample(IMAGES, seed=run.seed, purpose="feature-shift"), None
    if source.trained_on is not None:
        levels = [find_copies(sample.fingerprints, level.train).found for level in source.trained_on.levels]
        known = int(np.any(levels, axis=0).sum())
        if not known:
            raise ConfigError(
                f"none of {len(sample)} images of {source_data} is one that the source was trained on: "
                "give its own training data as source_data"
            )
    ours = [
        find_copies(sample.fingerprints, split.fingerprints).found for split in (task.train, task.val) if len(split)
    ]
    apart = torch.from_numpy(np.flatnonzero(~np.any(ours, axis=0)))
    if not len(apart):
        raise ConfigError(f"the images of {source_data} are the target's own, and none of these is attacked")
    return sample.subset(apart).prepared(source.preprocessing), known
