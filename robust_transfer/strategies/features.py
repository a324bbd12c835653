"""Penultimate features of a whole split, computed once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robust_transfer.cache import load_or_compute
from robust_transfer.checkpoint import weights_hash
from robust_transfer.classifier import Classifier
from robust_transfer.config import digest
from robust_transfer.data import Split, to_pixels
from robust_transfer.errors import CheckpointError
from robust_transfer.run import Run

BATCH_PIXELS = 500 * 64 * 64  # of a batch


def features_of(classifier: Classifier, split: Split, run: Run) -> Tensor:
    """``z(x)`` for every image of ``split``, in order: float32 ``(n, d)`` on the CPU, in evaluation mode.

    The classifier is unchanged, on its own device. With ``run.cache`` they are computed once for all runs. Raises
    :class:`CheckpointError` for features that are not finite.
    """
    if not len(split):
        return torch.empty(0, classifier.num_features)
    key = features_key(classifier, split, run)
    made = load_or_compute(
        run.cache,
        "features",
        key,
        lambda: rows_of(classifier, split, run, lambda model, x: {"features": model.features(x)}),
    )
    return made["features"]


def features_key(classifier: Classifier, split: Split, run: Run) -> str:
    """Key of the cache for what a network's body computes on ``split``; empty where nothing is cached."""
    if run.cache is None:
        return ""
    spec = classifier.spec
    parts = [spec.name, spec.settings, spec.preprocessing, weights_hash(classifier.body), run.dtype()]
    return digest(*parts, split.hash)


def rows_of(
    classifier: Classifier, split: Split, run: Run, compute: Callable[[Classifier, Tensor], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """``compute(model, images)`` over all of ``split``, which has an image or more: float32 rows on the CPU, by name.

    The network is in evaluation mode, without gradients.
    """
    device = run.torch_device()
    model = classifier if classifier.device == device else classifier.copy().to(device)
    size = classifier.spec.input_size
    batch = max(2, min(500, BATCH_PIXELS // (size * size)))
    rows = dict[str, list[Tensor]]()
    with model.eval_mode(), torch.no_grad(), run.autocast():
        for images, _, _ in split.batches(batch):
            for name, found in compute(model, to_pixels(images, device)).items():
                rows.setdefault(name, []).append(found.cpu())
    joined = {name: torch.cat(found) for name, found in rows.items()}
    if not all(bool(found.isfinite().all()) for found in joined.values()):
        raise CheckpointError(
            "the source's features are not finite on these images: its weights are damaged, get them again"
        )
    return joined
