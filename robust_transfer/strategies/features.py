"""Penultimate features of a whole split, computed once."""

from __future__ import annotations

import torch
from torch import Tensor

from robust_transfer.classifier import Classifier
from robust_transfer.data import Split, to_pixels
from robust_transfer.run import Run

BATCH = 500


def features_of(classifier: Classifier, split: Split, run: Run) -> Tensor:
    """``z(x)`` for every image of ``split``, in order: float32 ``(n, d)`` on the CPU, in evaluation mode."""
    device = run.torch_device()
    classifier.to(device)  # channels-last already
    rows = [torch.empty(0, classifier.num_features)]
    with classifier.eval_mode(), torch.no_grad(), run.autocast():
        for images, _, _ in split.batches(BATCH):
            rows.append(classifier.features(to_pixels(images, device)).cpu())
    return torch.cat(rows)
