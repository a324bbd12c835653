"""Penultimate features of a whole split, computed once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from robust_transfer.cache import load_or_compute
from robust_transfer.checkpoint import weights_hash
from robust_transfer.classifier import Classifier
from robust_transfer.config import digest
from robust_transfer.data import Split, to_pixels
from robust_transfer.errors import CheckpointError, DataError
from robust_transfer.halving import Halving
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


def refuse_alike(features: Tensor) -> None:
    """Raise :class:`DataError` where all rows of ``features`` ``(n, d)`` are the same: no head tells such images apart."""
    if bool((features == features[:1]).all()):
        raise DataError(
            f"the source's features are the same for all {len(features)} images: either they are the same picture, with "
            "several labels, or the source sees nothing in them; look at them with `robust-transfer data`"
        )


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
    rows, fitting = dict[str, list[Tensor]](), Halving()
    with model.eval_mode(), torch.no_grad(), run.autocast():
        for images, _, _ in split.batches(batch):
            for part in fitting.over(len(images), tuple(images.shape[1:]), partial(_computed, compute, model, images)):
                for name, found in part.items():
                    rows.setdefault(name, []).append(found)
    joined = {name: torch.cat(found) for name, found in rows.items()}
    if not all(bool(found.isfinite().all()) for found in joined.values()):
        raise CheckpointError(
            "the source's features are not finite on these images: its weights are damaged, get them again"
        )
    return joined


def _computed(
    compute: Callable[[Classifier, Tensor], dict[str, Tensor]], model: Classifier, images: Tensor, rows: slice
) -> dict[str, Tensor]:
    """What ``compute`` finds for some of the uint8 ``images``, on the CPU."""
    found = compute(model, to_pixels(images[rows], model.device))
    return {name: values.cpu() for name, values in found.items()}
