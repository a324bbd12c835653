"""Mixture of a robust probe and its natural fine-tuning in probability space (Bai et al. 2024, MixedNUTS)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from robust_transfer.attacks import PGD
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.cost import Cost
from robust_transfer.data import Task, to_pixels
from robust_transfer.engine import Engine
from robust_transfer.errors import ConfigError
from robust_transfer.mixed_head import Mixing
from robust_transfer.mixture import mixed_anew, mixture
from robust_transfer.modes import eval_mode, on_device
from robust_transfer.monitor import validation_passes
from robust_transfer.run import Run
from robust_transfer.statistics.operating_point import OperatingPoint
from robust_transfer.strategies.base import STRATEGIES, keeps_head
from robust_transfer.strategies.curve import Front
from robust_transfer.strategies.mixing_grid import Estimate, Looks
from robust_transfer.strategies.two_ends import TwoEnds

SEEN_ATTACK = PGD(steps=20, loss="margin")  # of the robust end on val: once, for the whole grid


@STRATEGIES.register(
    "mix",
    summary="the probe and its fine-tuning, both kept, mixed in probability space",
    paper="Bai et al. 2024 (MixedNUTS)",
)
@config
class Mix(TwoEnds):
    """``(1 - share) softmax(fine-tuning) + share softmax(M(robust end))``; both networks are run for every image.

    M (:class:`~robust_transfer.mixed_head.Mixing`) makes the robust network surer where it is right under attack. Its numbers
    come from a grid of ``shares``, ``spreads`` (of the sharpened logits on the median image), ``powers`` and ``shifts``, which
    is judged on val by one attack on the robust end: for each of ``levels``, the most accurate mixture of the grid that
    keeps so much of what the robust end keeps (and, where ``clean`` is given, the most robust that is so accurate) is made
    and attacked itself, by PGD-10 and through both networks; of these the curve's rule takes one.
    """

    weighs: ClassVar[bool] = True
    quick: ClassVar[dict[str, Any]] = {
        **TwoEnds.quick, "epochs": 8, "shares": (0.6, 0.95), "powers": (2.0,), "levels": (0.9,),
    }  # fmt: skip

    shares: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
    spreads: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
    powers: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0)
    shifts: tuple[float, ...] = (-1.0, -0.5, 0.0)
    levels: tuple[float, ...] = (0.8, 0.85, 0.9, 0.95, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.shares and self.spreads and self.powers and self.shifts and self.levels):
            raise ConfigError("shares, spreads, powers, shifts and levels need a value each at least")
        if min(self.spreads) <= 0 or not all(0 < level <= 1 for level in self.levels):
            raise ConfigError("spreads must be positive, and levels above 0 and at most 1")
        for share in self.shares:
            for power in self.powers:
                Mixing(share=share, power=power)

    def check(self, source: Checkpoint, task: Task) -> None:
        """Refuse, beside what a curve refuses, a head that would be kept and is not linear."""
        super().check(source, task)
        if keeps_head(source, task, self.head) and not isinstance(source.classifier.head, nn.Linear):
            raise ConfigError("mix needs linear heads, and the source's, which would be kept, is none: use head=new")

    def passes(self, task: Task) -> float:
        """Forecast: the fine-tuning, an attack on the robust end beside its own, and two attacks on each mixture."""
        n = validation_passes(task.val, robust=False)
        mixtures = (self.points() - 1) * validation_passes(task.val, robust=True, mixture=True)
        ends = self.fine_tuning().passes(task) + validation_passes(task.val, robust=True)
        return ends + mixtures + n * (SEEN_ATTACK.passes + 3)

    @override
    def points(self) -> int:  # at most: several levels may have one mixture
        return 1 + len(self.levels) + (self.clean is not None)

    @override
    def walk(self, front: Front, source: Checkpoint, task: Task, run: Run) -> None:
        start = self.robust_end(front, source, task, run)
        tuned = self.tuned_end(front, start, source, task)
        if task.num_classes == 2:
            front.events.append(
                "of two logits layer normalisation leaves only which is larger: the mixtures are the one network or the other"
            )
        looks, cost = look(start.classifier, tuned, front, run)
        front.cost += cost
        found = list(looks.estimates(self.shares, self.spreads, self.powers, self.shifts))
        front.notes["grid"] = {"mixtures": len(found), "attack": str(SEEN_ATTACK), "passes": cost.passes}
        made: Classifier | None = None
        for estimate in self.chosen(found, looks.kept):
            how = estimate.how
            made = mixed_anew(made, how) if made is not None else mixture(start.classifier, tuned, how)
            front.add("mix", made, shift=how.shift, power=how.power, scale=how.scale, share=how.share)

    def chosen(self, found: list[Estimate], most: float) -> list[Estimate]:
        """Mixtures that are worth an attack of their own, each once; ``most``: what the robust end keeps by itself."""
        rules = [OperatingPoint(keep=level) for level in self.levels]
        rules += [self._point()] if self.clean is not None else []
        pairs = [(estimate.clean, estimate.robust) for estimate in found]
        rows = dict.fromkeys(rule.select(pairs, most)[0] for rule in rules)
        return [found[row] for row in rows]


def look(robust: Classifier, natural: Classifier, front: Front, run: Run) -> tuple[Looks, Cost]:
    """Logits of both networks on val, and of the robust one under :data:`SEEN_ATTACK`; and their cost."""
    val, device, engine = front.validation.val, run.torch_device(), Engine(run.dtype())
    rows, cost = list[tuple[Tensor, ...]](), Cost()
    with on_device(robust, device), on_device(natural, device), eval_mode(robust), eval_mode(natural):
        for images, labels, ids in val.batches(250):
            x, y, i = to_pixels(images, device), labels.to(device), ids.to(device)
            result = SEEN_ATTACK(robust, x, y, i, front.threat, seed=run.seed, engine=engine)
            with torch.no_grad():
                said = robust(x), natural(x), robust(result.adversarial)
            rows.append(tuple(part.cpu() for part in (*said, ~result.broken, y)))
            cost += Cost(passes=result.passes + 3 * len(x), adversarial_examples=result.crafted(y))
    first, second, attacked, standing, own = (torch.cat(column) for column in zip(*rows, strict=True))
    return Looks(first, second, attacked, standing, own, val.weights), cost
