"""Teacher beside a classifier in training: frozen, in evaluation mode, without gradients."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from robust_transfer.classifier import Classifier


class Teacher(nn.Module):
    """Logits of ``classifier`` for a batch of images, which cost a pass each."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier.requires_grad_(False)

    @override
    def forward(self, x: Tensor) -> Tensor:
        with self.classifier.eval_mode(), torch.no_grad():
            logits: Tensor = self.classifier(x)
        return logits
