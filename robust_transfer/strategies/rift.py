"""RiFT (Zhu et al. 2023): the module that robustness needs least is fine-tuned naturally, then interpolated."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
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


@STRATEGIES.register(
    "rift",
    summary="the module that robustness needs least, fine-tuned and interpolated",
    paper="Zhu et al. 2023 (RiFT), section 3",
)
@config
class RiFT(TwoEnds):
    """Natural fine-tuning of the least robustness-critical module, interpolated with the robust end at each of ``shares``.

    A module is a layer with a weight of at least two dimensions (convolution, linear layer) below the head. Its criticality
    is how much the mean cross-entropy on fixed adversarial images (PGD-10 against the robust end, ``examples`` of val)
    rises in ``ascent`` steps of gradient ascent on its weight within ``radius`` times the weight's norm. The head stays as
    it is. Val alone is looked at, never test.
    """

    weighs: ClassVar[bool] = True
    quick: ClassVar[dict[str, Any]] = {**TwoEnds.quick, "shares": (0.5, 1.0), "examples": 20, "ascent": 2}

    shares: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    examples: int = 250
    ascent: int = 5
    radius: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.shares or not all(0 < share <= 1 for share in self.shares):
            raise ConfigError("shares must be above 0 and at most 1, and there must be one")
        if self.examples < 1 or self.ascent < 1 or self.radius <= 0:
            raise ConfigError("examples, ascent and radius must be positive")

    @override
    def points(self) -> int:
        return 1 + len(self.shares)

    @override
    def check(self, source: Checkpoint, task: Task) -> None:
        """Refuse also a network without such modules."""
        super().check(source, task)
        if not module_names(source.classifier):
            raise ConfigError(f"rift finds no module with weights in a {source.card.network.name!r}: use linear-probe")

    @override
    def passes(self, task: Task) -> float:
        """Forecast: as of :class:`TwoEnds`, and the attack on val; the ascent depends on the network's depth."""
        images = min(self.examples, len(task.val))
        return super().passes(task) + validation_passes(task.val.subset(torch.arange(images)), robust=True)

    @override
    def walk(self, front: Front, source: Checkpoint, task: Task, run: Run) -> None:
        start = self.robust_end(front, source, task, run)
        robust = start.classifier.copy()
        found, cost = criticality(
            robust, task, front.threat, run, examples=self.examples, steps=self.ascent, radius=self.radius
        )
        front.cost += cost
        least = min(found, key=lambda name: found[name])
        front.notes["criticality"], front.notes["module"] = found, least
        others = [name for name in robust.state_dict() if name != f"body.{least}.weight"]
        tuned = self.tuned_end(front, start, source, task, frozen=others)
        for share in self.shares:
            front.add("rift", between(robust, tuned, share), share=share)


def module_names(classifier: Classifier) -> list[str]:
    """Paths in the body of the layers whose weight has at least two dimensions, in the network's order of definition."""
    named = classifier.body.named_modules()
    return [
        path
        for path, module in named
        if isinstance(getattr(module, "weight", None), nn.Parameter) and module.weight.dim() > 1
    ]


def criticality(
    classifier: Classifier, task: Task, threat: Threat, run: Run, *, examples: int, steps: int, radius: float
) -> tuple[dict[str, float], Cost]:
    """Rise of the loss under attack that a module's worst weights nearby bring, by its path; and what that cost.

    ``max_d CE(x', w + d) - CE(x', w)`` over ``|d| <= radius * |w|`` (l2), by ``steps`` normalised ascent steps of
    ``radius * |w| / steps * 2`` on the whole sample; the best loss on the way counts. ``x'`` are fixed.
    """
    classifier = classifier.to(run.torch_device()).eval()
    batches = attacked_val(classifier, task, threat, run, examples=examples, purpose="rift")
    cost, n = sum((batch.cost for batch in batches), Cost()), sum(len(batch.labels) for batch in batches)
    found = dict[str, float]()
    for name in module_names(classifier):
        weight = classifier.body.get_submodule(name).weight
        assert isinstance(weight, nn.Parameter)
        found[name] = _rise(classifier, weight, batches, steps, radius)
        cost += Cost(passes=(3.0 * steps + 1.0) * n)
    return found, cost


def _rise(
    classifier: Classifier, weight: nn.Parameter, attacked: list[AttackedBatch], steps: int, radius: float
) -> float:
    """Largest loss in ``steps`` steps of ascent on ``weight``, less the loss at its own value, which is restored."""
    origin, requires = weight.detach().clone(), weight.requires_grad
    bound, losses = radius * float(origin.norm()), list[float]()
    weight.requires_grad_(True)
    try:
        for step in range(steps + 1):
            value, slope = _loss(classifier, weight, attacked, gradient=step < steps)
            losses.append(value)
            if slope is None:
                break
            with torch.no_grad():
                moved = weight + 2 * bound / steps * slope / slope.norm().clamp_min(1e-30) - origin
                weight.copy_(origin + moved * min(1.0, bound / max(float(moved.norm()), 1e-30)))
    finally:
        with torch.no_grad():
            weight.copy_(origin)
        weight.requires_grad_(requires)
    return max(losses) - losses[0]


def _loss(
    classifier: Classifier, weight: nn.Parameter, attacked: list[AttackedBatch], *, gradient: bool
) -> tuple[float, Tensor | None]:
    """Weighted mean of the cross-entropy on the attacked images and, with ``gradient``, its slope in ``weight``."""
    total, slope, count = 0.0, torch.zeros_like(weight), sum(float(batch.weights.sum()) for batch in attacked)
    for batch in attacked:
        with torch.set_grad_enabled(gradient):
            loss = batch.cross_entropy(classifier(batch.adversarial)) / count
        if gradient:
            slope += torch.autograd.grad(loss, weight)[0]
        total += float(loss.detach())
    return total, slope if gradient else None
