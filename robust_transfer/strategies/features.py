"""Penultimate features of a whole split, computed once."""

from __future__ import annotations

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
    spec = classifier.spec
    parts = [spec.name, spec.settings, spec.preprocessing, weights_hash(classifier.body), run.dtype()]
    key = digest(*parts, split.hash) if run.cache is not None else ""
    return load_or_compute(run.cache, "features", key, lambda: {"features": _computed(classifier, split, run)})[
        "features"
    ]


def _computed(classifier: Classifier, split: Split, run: Run) -> Tensor:
    device = run.torch_device()
    model = classifier if classifier.device == device else classifier.copy().to(device)
    size = classifier.spec.input_size
    batch = max(2, min(500, BATCH_PIXELS // (size * size)))
    rows = [torch.empty(0, classifier.num_features)]
    with model.eval_mode(), torch.no_grad(), run.autocast():
        for images, _, _ in split.batches(batch):
            rows.append(model.features(to_pixels(images, device)).cpu())
    features = torch.cat(rows)
    if not bool(features.isfinite().all()):
        raise CheckpointError(
            "the source's features are not finite on these images: its weights are damaged, get them again"
        )
    return features
