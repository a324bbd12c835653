"""Shift of a network's activations under attack, block by block (Shafahi et al. 2020, section 5)."""

from __future__ import annotations

import torch
from torch import Tensor

from robust_transfer.activations import block_modules, captured
from robust_transfer.classifier import Classifier
from robust_transfer.modes import eval_mode


def feature_distances(classifier: Classifier, x: Tensor, attacked: Tensor) -> dict[str, Tensor]:
    """``|h(x') - h(x)| / |h(x)|`` (l2) after every block, by the block's name in order, each ``(B,)``; the logits last.

    ``x`` and ``attacked`` are images ``(B, 3, H, W)`` in [0, 1].
    """
    before, after = (outputs(classifier, images) for images in (x, attacked))
    return {
        name: (after[name] - clean).flatten(1).norm(dim=1) / clean.flatten(1).norm(dim=1).clamp_min(1e-12)
        for name, clean in before.items()
    }


def outputs(classifier: Classifier, x: Tensor) -> dict[str, Tensor]:
    """Output of every block for images, float32, and the logits."""
    with eval_mode(classifier), torch.no_grad(), captured(block_modules(classifier)) as found:
        logits = classifier(x)
    return {**{name: out.float() for name, out in found.items()}, "logits": logits.float()}
