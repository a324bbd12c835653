"""What training may look at on the way: clean and PGD accuracy on val, and whether a network has collapsed."""

from __future__ import annotations

import torch
from torch import Tensor

from robust_transfer.attacks import PGD
from robust_transfer.classifier import Classifier
from robust_transfer.data import Split, to_pixels
from robust_transfer.errors import DivergedError
from robust_transfer.run import Run
from robust_transfer.threat import Threat


class Validation:
    """Clean and PGD accuracy on val: ``{"clean_accuracy", "robust_accuracy"}``; counts the adversarial examples it makes."""

    def __init__(self, val: Split, threat: Threat, run: Run, steps: int = 10, limit: int = 1000) -> None:
        self.val = val.subset(torch.arange(min(limit, len(val))))
        self.threat, self.run, self.attack = threat, run, PGD(steps=steps)
        self.adversarial_examples = 0
        self.passes = 0

    def __call__(self, classifier: Classifier) -> dict[str, float]:
        """Figures of ``classifier``, each over all val images."""
        right = standing = 0
        for images, labels, ids in self.val.batches(250):
            x = to_pixels(images, classifier.device)
            labels, ids = labels.to(x.device), ids.to(x.device)
            result = self.attack(classifier, x, labels, ids, self.threat, seed=self.run.seed, dtype=self.run.dtype())
            right += int((result.clean_prediction == labels).sum())
            standing += int((~result.broken).sum())
            self.passes += result.passes
        self.adversarial_examples += right
        return {"clean_accuracy": right / len(self.val), "robust_accuracy": standing / len(self.val)}


def refuse_collapse(classifier: Classifier, split: Split, run: Run, limit: int = 500) -> None:
    """Raise :class:`DivergedError` where all of several classes' training images are predicted as one class."""
    split = split.subset(torch.arange(min(limit, len(split))))
    if len(split.labels.unique()) < 2:
        return
    predictions = [predict(classifier, images, run) for images, _, _ in split.batches(250)]
    if len(torch.cat(predictions).unique()) < 2:
        raise DivergedError("training ended with every image predicted as one class: nothing was saved; train longer or slower")


def predict(classifier: Classifier, images: Tensor, run: Run) -> Tensor:
    """Predicted classes of uint8 images, ``(B,)`` on the CPU."""
    device = run.torch_device()
    classifier.to(device)
    with classifier.eval_mode(), torch.no_grad():
        return classifier(to_pixels(images, device)).argmax(1).cpu()
