"""Interpolation of weights between two networks of one architecture (Wortsman et al. 2022, WiSE-FT)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from typing_extensions import override

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.data import Task
from robust_transfer.errors import CheckpointError, ConfigError
from robust_transfer.provenance import Mixture
from robust_transfer.run import Run
from robust_transfer.strategies.base import STRATEGIES
from robust_transfer.strategies.curve import Front
from robust_transfer.strategies.two_ends import TwoEnds
from robust_transfer.trained_on import merged


@STRATEGIES.register(
    "interpolate",
    summary="weights between the probe and its fine-tuning, and the point that is asked for",
    paper="Wortsman et al. 2022 (WiSE-FT), section 3",
)
@config
class Interpolate(TwoEnds):
    """``(1 - share) * robust end + share * fine-tuning`` over weights and buffers, for each of ``shares`` in (0, 1]."""

    weighs: ClassVar[bool] = True
    quick: ClassVar[dict[str, Any]] = {**TwoEnds.quick, "shares": (0.5, 1.0)}

    shares: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.shares or not all(0 < share <= 1 for share in self.shares):
            raise ConfigError("shares must be above 0 and at most 1, and there must be one")

    @override
    def points(self) -> int:
        return 1 + len(self.shares)

    @override
    def walk(self, front: Front, source: Checkpoint, task: Task, run: Run) -> None:
        start = self.robust_end(front, source, task, run)
        tuned = self.tuned_end(front, start, source, task)
        for share in self.shares:
            front.add("interpolate", between(start.classifier, tuned, share), share=share)


def interpolate(a: Checkpoint, b: Checkpoint, share: float) -> Checkpoint:
    """``(1 - share) * a + share * b`` over weights and buffers, ``share`` in [0, 1] (Wortsman et al. 2022, WiSE-FT).

    The two must be one network with the same classes, else :class:`CheckpointError`. Counters (of the batches that batch
    norm has seen) are ``a``'s. The card counts what both cost and names both as sources.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"share must be between 0 and 1, not {share}")
    if a.card.network != b.card.network:
        raise CheckpointError("only checkpoints of the same network, at the same input size, can be interpolated")
    if a.card.class_names != b.card.class_names:
        raise CheckpointError("only checkpoints of the same classes, in the same order, can be interpolated")
    classifier = between(a.classifier, b.classifier, share)
    card = replace(
        a.card,
        method=f"interpolation:{share:g}",
        settings={"share": share, "a": a.card.method, "b": b.card.method},
        threat=a.card.threat if a.card.threat == b.card.threat else None,
        data=a.card.data if a.card.data == b.card.data else {"name": f"{_data(a)} and {_data(b)}"},
        source=Mixture(a=a.provenance, b=b.provenance),
        criterion=f"share given as {share:g}",
        metrics={},
        events=(),
        cost=a.card.cost + b.card.cost,
        weights_hash="",
        fingerprints={},
    )
    return Checkpoint(classifier.eval(), card, merged(a.trained_on, b.trained_on))


def between(a: Classifier, b: Classifier, share: float) -> Classifier:
    """``(1 - share) * a + share * b`` over weights and buffers of two classifiers of one network; counters are ``a``'s."""
    first, second = a.state_dict(), b.state_dict()
    mixed = {k: _lerp(v, second[k].to(v.device), share) for k, v in first.items()}
    classifier = a.copy()
    classifier.load_state_dict(mixed, strict=True)
    return classifier


def _lerp(a: torch.Tensor, b: torch.Tensor, share: float) -> torch.Tensor:
    return torch.lerp(a, b, share) if a.is_floating_point() else a


def _data(checkpoint: Checkpoint) -> str:
    return str(checkpoint.card.data.get("name", "unknown data"))
