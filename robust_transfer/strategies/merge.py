"""Merging of the robust end and its natural fine-tuning, weight by weight, by stability masks of both (after PISTOLE)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.cost import Cost
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.monitor import validation_passes
from robust_transfer.run import Run
from robust_transfer.strategies.attacked_val import AttackedBatch, attacked_val
from robust_transfer.strategies.base import STRATEGIES
from robust_transfer.strategies.curve import Front
from robust_transfer.strategies.interpolation import between
from robust_transfer.strategies.two_ends import TwoEnds
from robust_transfer.threat import Threat

Sizes = dict[str, Tensor]


@STRATEGIES.register(
    "merge",
    summary="weight by weight between the probe and its fine-tuning, where each is stable",
    paper="PISTOLE (ICLR 2026), stability masks; Wortsman et al. 2022",
)
@config
class Merge(TwoEnds):
    """``w = ((1 - share) m_r w_r + share m_n w_n) / ((1 - share) m_r + share m_n)``, weight by weight.

    ``w_r`` is the robust end and ``w_n`` its natural fine-tuning. ``m_n = (1 - g_r)^kappa`` is large where the robust end's
    loss under PGD-10 hardly depends on a weight, ``m_r = (1 - g_n)^kappa`` where the fine-tuning's loss on clean images
    hardly does; ``g`` are absolute gradients on ``examples`` val images, means over batches of 100, relative to the largest
    of their tensor.
    ``kappas`` 0 is plain interpolation. The published method merges two vectors from a common origin; here the robust
    end is an origin itself, so that the masks are weights of a mean and the ends of a curve are the two networks.
    """

    weighs: ClassVar[bool] = True
    quick: ClassVar[dict[str, Any]] = {**TwoEnds.quick, "shares": (0.5,), "kappas": (2.0,), "examples": 20}

    shares: tuple[float, ...] = (0.2, 0.35, 0.5, 0.65)
    kappas: tuple[float, ...] = (0.0, 4.0, 16.0)
    examples: int = 500

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.shares or not all(0 < share < 1 for share in self.shares):
            raise ConfigError("shares must lie between 0 and 1, and there must be one")
        if not self.kappas or min(self.kappas) < 0 or self.examples < 1:
            raise ConfigError("kappas must be at least 0, there must be one, and examples at least 1")

    @override
    def points(self) -> int:
        return 2 + len(self.shares) * len(self.kappas)

    @override
    def passes(self, task: Task) -> float:
        """Forecast: as of :class:`TwoEnds`, and the gradients of both ends."""
        images = min(self.examples, len(task.val))
        return (
            super().passes(task) + validation_passes(task.val.subset(torch.arange(images)), robust=True) + 6.0 * images
        )

    @override
    def walk(self, front: Front, source: Checkpoint, task: Task, run: Run) -> None:
        start = self.robust_end(front, source, task, run)
        robust, tuned = start.classifier, self.tuned_end(front, start, source, task)
        front.add("fine-tune", tuned)
        under_attack, clean, cost = gradient_sizes(robust, tuned, task, front.threat, run, self.examples)
        front.cost += cost
        for kappa in self.kappas:
            for share in self.shares:
                front.add("merge", merged(robust, tuned, under_attack, clean, share, kappa), kappa=kappa, share=share)


def gradient_sizes(
    robust: Classifier, tuned: Classifier, task: Task, threat: Threat, run: Run, examples: int
) -> tuple[Sizes, Sizes, Cost]:
    """Relative gradients by parameter, of the robust end on attacked val and of the fine-tuning on clean val; their cost."""
    totals: tuple[Sizes, Sizes] = ({}, {})
    cost = Cost()
    for classifier in (robust, tuned):
        classifier.to(run.torch_device())
    for batch in attacked_val(robust, task, threat, run, examples=examples, purpose="merge"):
        cost += batch.cost + Cost(passes=6.0 * len(batch.labels))
        for total, classifier, given in zip(totals, (robust, tuned), (batch.adversarial, batch.clean), strict=True):
            for name, size in absolute_gradients(classifier, given, batch).items():
                total[name] = total.get(name, torch.zeros_like(size)) + size
    under_attack, clean = ({name: size / size.max().clamp_min(1e-30) for name, size in t.items()} for t in totals)
    return under_attack, clean, cost


def absolute_gradients(classifier: Classifier, x: Tensor, batch: AttackedBatch) -> Sizes:
    """``|d mean CE / d w|`` in evaluation mode on the batch's images ``x``, by parameter, on the CPU; frozen ones included.

    The mean heeds weights as ``mean(weight * CE)``: a batch of heavy images counts for more.
    """
    parameters = dict(classifier.named_parameters())
    asked = [p.requires_grad for p in parameters.values()]
    for p in parameters.values():
        p.requires_grad_(True)
    with classifier.eval_mode():
        loss = batch.cross_entropy(classifier(x)) / len(x)
        slopes = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True, materialize_grads=True)
    for p, before in zip(parameters.values(), asked, strict=True):
        p.requires_grad_(before)
    return {name: slope.abs().cpu() for name, slope in zip(parameters, slopes, strict=True)}


def merged(
    robust: Classifier, tuned: Classifier, under_attack: Sizes, clean: Sizes, share: float, kappa: float
) -> Classifier:
    """Network of the merged weights; buffers are interpolated by ``share``."""
    classifier = between(robust.cpu(), tuned.cpu(), share)
    ends = dict(robust.named_parameters()), dict(tuned.named_parameters())
    with torch.no_grad():
        for name, p in classifier.named_parameters():
            kept = (1 - share) * (1 - clean[name]) ** kappa
            moved = share * (1 - under_attack[name]) ** kappa
            total = kept + moved
            part = torch.where(total > 0, moved / total.clamp_min(1e-30), torch.full_like(total, share))
            p.copy_(torch.lerp(ends[0][name], ends[1][name], part))
    return classifier
