"""Objective of learning without forgetting: cross-entropy, and the drift from the source's features."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from typing_extensions import override

from robust_transfer.classifier import Classifier
from robust_transfer.strategies.feature_distance import Distance, feature_distance
from robust_transfer.strategies.pooled import with_pooled
from robust_transfer.training import Batch, CachedRows, Objective


class LwFObjective(Objective):
    """``CE + weight * mean d(z, z0)`` with ``z0`` looked up in ``features`` ``(n, d)`` or computed by ``teacher``.

    ``root`` ``(d, d)``: see :func:`feature_distance`. ``inner``: weights of further terms, on the means of the named blocks'
    channels; the source's are in ``pooled``, ``(n, C)`` each, where there is no teacher. ``share(step, steps)`` is a
    factor of all these weights. ``passes_per_image`` is 3 with features and 4 with a teacher, which sees every image once
    more.
    """

    root: Tensor | None

    def __init__(
        self,
        classifier: Classifier,
        *,
        weight: float,
        distance: Distance,
        features: Tensor | None = None,
        teacher: Classifier | None = None,
        patience: int = 1,
        root: Tensor | None = None,
        inner: Mapping[str, float] | None = None,
        pooled: Mapping[str, Tensor] | None = None,
        share: Callable[[int, int], float] | None = None,
    ) -> None:
        super().__init__(classifier)
        self.weight, self.distance, self.collapse_patience = weight, distance, patience
        self.known = CachedRows(features) if features is not None else None
        self.teacher = teacher.requires_grad_(False) if teacher is not None else None
        self.passes_per_image = 3.0 if teacher is None else 4.0
        self.inner, self.share = dict(inner or {}), share
        self.pooled = {name: CachedRows(rows) for name, rows in (pooled or {}).items()}
        self.register_buffer("root", root, persistent=False)

    @override
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        z, means = with_pooled(self.classifier, batch.images, tuple(self.inner))
        logits = self.classifier.classify(z)
        cross_entropy = batch.cross_entropy(logits)
        z0, wanted = self._of_source(batch)
        drift = batch.mean(feature_distance(z, z0, self.distance, self.root))
        penalty, told = self.weight * drift, {"drift": drift}
        if self.inner:
            each = [
                weight * batch.mean(feature_distance(means[name], wanted[name], self.distance))
                for name, weight in self.inner.items()
            ]
            told["inner_penalty"] = torch.stack(each).sum()
            penalty = penalty + told["inner_penalty"]
        if self.share is not None:
            share = self.share(batch.step, self.total_steps)
            told["strength_share"] = penalty.new_tensor(share)
            penalty = share * penalty
        return {"loss": cross_entropy + penalty, "cross_entropy": cross_entropy, **told, "logits": logits}

    def _of_source(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Source's features of a batch, and its blocks' means."""
        if self.teacher is None:
            assert self.known is not None
            return self.known(batch), {name: rows(batch) for name, rows in self.pooled.items()}
        with self.teacher.eval_mode(), torch.no_grad():
            return with_pooled(self.teacher, batch.images, tuple(self.inner))
