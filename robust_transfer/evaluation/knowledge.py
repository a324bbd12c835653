"""Knowledge of a transferred model's attacker: its public source, and images of the same kind."""

from __future__ import annotations

from robust_transfer.attacks.victim import Knowledge
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.data import Split, to_pixels
from robust_transfer.errors import CheckpointError
from robust_transfer.sources import PACKAGED, load_source

KNOWN_IMAGES = 200


def public_source(model: Checkpoint) -> Checkpoint | None:
    """Packaged source that ``model`` descends from, if any: these are public."""
    if model.card.source is None:
        return None
    ancestors = set(model.card.source.hashes())
    for name in PACKAGED:
        try:
            packaged = load_source(name)
        except CheckpointError:
            continue
        if packaged.hash in ancestors:
            return packaged
    return None


def knowledge_of(source: Checkpoint, split: Split, *, seed: int) -> Knowledge:
    """``source``, and a stratified sample of ``split`` at the source's input size."""
    sample = split.sample(KNOWN_IMAGES, seed=seed, purpose="knowledge").prepared(source.preprocessing)
    return Knowledge(source.classifier, to_pixels(sample.images()), sample.labels)
