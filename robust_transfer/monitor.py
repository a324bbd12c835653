"""Validation during training: clean accuracy, accuracy under attack, and detection of collapse to one class."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from robust_transfer.attacks import PGD, ThroughParts
from robust_transfer.attacks.base import SURVIVAL_SHARE
from robust_transfer.classifier import Classifier
from robust_transfer.cost import Cost
from robust_transfer.data import Split, to_pixels
from robust_transfer.data.weights import mean
from robust_transfer.engine import Engine
from robust_transfer.errors import DivergedError
from robust_transfer.mixture import mixed_head
from robust_transfer.run import Run
from robust_transfer.threat import Threat

VALIDATION_STEPS, VALIDATION_IMAGES = 10, 1000  # of PGD, and val images that it is run on


def validation_attack(*, mixtures: bool) -> str:
    """Attack of a :class:`Validation` in words, where some of the networks are ``mixtures`` of two or none is."""
    return f"PGD-{VALIDATION_STEPS}{', mixtures also through both networks' if mixtures else ''}"


def validation_passes(val: Split, *, robust: bool, mixture: bool = False) -> float:
    """Approximate image passes of one validation on ``val``; of a ``mixture`` of two networks, where it is one."""
    each = PGD(steps=VALIDATION_STEPS).passes if robust else 1.0
    if robust and mixture:
        each += SURVIVAL_SHARE * ThroughParts(steps=VALIDATION_STEPS).passes
    return min(len(val), VALIDATION_IMAGES) * each


class Validation:
    """Clean and robust accuracy (PGD) on val: ``{"clean_accuracy", "robust_accuracy"}``; clean only where ``threat`` is None.

    Val's weights count, if it has any. What PGD leaves of a mixture of two networks is attacked through each of them, too:
    PGD alone would flatter it. ``cost`` is the cost so far, except for the seconds.
    """

    def __init__(
        self, val: Split, threat: Threat | None, run: Run, steps: int = VALIDATION_STEPS, limit: int = VALIDATION_IMAGES
    ) -> None:
        self.val = val.sample(limit, seed=0, purpose="validation")
        self.run, self.attack, self.through = run, PGD(steps=steps), ThroughParts(steps=steps)
        self.robust = threat is not None
        self.threat = threat or Threat(norm="linf", eps=0.0)  # nothing is crafted
        self.cost = Cost()

    def __call__(self, classifier: Classifier) -> dict[str, float]:
        """Figures of ``classifier``, each over all val images."""
        right, standing = list[Tensor](), list[Tensor]()
        engine = Engine(self.run.dtype(), folded=self.robust)  # one pass is not worth a copy
        for images, labels, ids in self.val.batches(250):
            x = to_pixels(images, classifier.device)
            labels, ids = labels.to(x.device), ids.to(x.device)
            result = self.attack(classifier, x, labels, ids, self.threat, seed=self.run.seed, engine=engine)
            right.append((result.clean_prediction == labels).cpu())
            stands = ~result.broken
            self.cost += Cost(passes=result.passes, adversarial_examples=result.crafted(labels) if self.robust else 0)
            if self.robust and mixed_head(classifier) is not None:
                rest = x[stands], labels[stands], ids[stands]
                more = self.through(classifier, *rest, self.threat, seed=self.run.seed, engine=engine)
                stands[stands.clone()] = ~more.broken
                self.cost += Cost(passes=more.passes)
            standing.append(stands.cpu())
        figures = {"clean_accuracy": mean(torch.cat(right), self.val.weights)}
        if self.robust:
            figures["robust_accuracy"] = mean(torch.cat(standing), self.val.weights)
        return figures


def refuse_collapse(classifier: Classifier, split: Split, run: Run, limit: int = 500) -> None:
    """Raise :class:`DivergedError` if training images of several classes are all predicted as one class."""
    evenly = torch.linspace(0, len(split) - 1, min(limit, len(split))).round().long()  # folders are sorted by class
    split = split.subset(evenly)
    if len(set(split.labels.tolist())) < 2:
        return
    seen: set[int] = set()
    for images, _, _ in split.batches(50):  # most networks show two classes at once
        seen.update(predict(classifier, images, run).tolist())
        if len(seen) > 1:
            break
    else:
        raise DivergedError(
            "training ended with every image predicted as one class: nothing was saved; "
            "train for more epochs, or with a smaller learning_rate"
        )


def predict(classifier: Classifier, images: Tensor, run: Run) -> Tensor:
    """Predicted classes of uint8 images, ``(B,)`` on the CPU."""
    device = run.torch_device()
    classifier.to(device)
    with classifier.eval_mode(), torch.no_grad():
        return cast(Tensor, classifier(to_pixels(images, device)).argmax(1).cpu())
