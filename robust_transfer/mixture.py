"""Mixtures: two classifiers as one, and what each of them says by itself (Bai et al. 2024, MixedNUTS)."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn

from robust_transfer.classifier import Classifier, NetworkSpec
from robust_transfer.errors import ConfigError
from robust_transfer.heads import HeadSpec
from robust_transfer.mixed_head import MixedHead, Mixing
from robust_transfer.networks import pair


def mixture(robust: Classifier, natural: Classifier, how: Mixing) -> Classifier:
    """Classifier whose logits are the log-probabilities of the mixture; it has copies of both, in evaluation mode.

    Its features are those of both side by side, the robust network's first. Raises :class:`ConfigError` for
    classifiers of other images or classes, and for heads that are not linear.
    """
    if robust.spec.preprocessing != natural.spec.preprocessing or robust.num_classes != natural.num_classes:
        raise ConfigError("only networks of the same images (size, normalisation) and as many classes can be mixed")
    heads = [part.head for part in (robust, natural)]
    if not all(isinstance(head, nn.Linear) for head in heads):
        raise ConfigError("only networks with linear heads can be mixed")
    widths = (robust.num_features, natural.num_features)
    head = MixedHead(widths, robust.num_classes)
    head.first, head.second = (cast(nn.Linear, copy.deepcopy(one)) for one in heads)
    spec = NetworkSpec(
        name=pair.NAME,
        num_classes=robust.num_classes,
        preprocessing=robust.spec.preprocessing,
        settings=pair.settings_of(*((part.spec.name, part.spec.settings) for part in (robust, natural))),
        head=HeadSpec(parts=widths),
    )
    body = pair.Pair(copy.deepcopy(robust.body), copy.deepcopy(natural.body))
    made = Classifier(body, head.set(how), spec).to(robust.device)
    return made.requires_grad_(True).eval()


def mixed_anew(classifier: Classifier, how: Mixing) -> Classifier:
    """Same mixture with other numbers. The networks are not copied: what is done to one is done to both."""
    head = copy.deepcopy(mixed_head(classifier))
    assert head is not None
    return Classifier(classifier.body, head.set(how), classifier.spec).to(classifier.device).eval()


def mixed_head(model: nn.Module) -> MixedHead | None:
    """Head of a mixture; None for any other model."""
    return model.head if isinstance(model, Classifier) and isinstance(model.head, MixedHead) else None


class BothLogits(nn.Module):
    """Logits of both networks of a mixture, ``(B, 2 K)``: the robust one's, then the natural one's; not mixed."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        """Both, of images in [0, 1]."""
        features = self.classifier.features(x)
        with torch.autocast(features.device.type, enabled=False):
            return torch.cat(cast(MixedHead, self.classifier.head).both(features), 1)
