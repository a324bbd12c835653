"""Soups: weights of several fine-tunings from one start, averaged (Wortsman et al. 2022, model soups)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from typing_extensions import override

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError, DivergedError
from robust_transfer.monitor import validation_passes
from robust_transfer.run import Run
from robust_transfer.strategies.base import STRATEGIES
from robust_transfer.strategies.curve import Candidate, Front
from robust_transfer.strategies.fine_tune import FineTune
from robust_transfer.strategies.lwf import LwF
from robust_transfer.strategies.two_ends import TwoEnds, trained_from


@STRATEGIES.register(
    "soup",
    summary="the average of several fine-tunings, held near the source or not, and of the probe",
    paper="Wortsman et al. 2022 (model soups), section 2; Croce et al. 2023 (seasoning)",
)
@config
class Soup(TwoEnds):
    """Members: the robust end, and from it a training for each of ``strengths``: LwF's, 0 for plain fine-tuning.

    Measured on val: every member, the uniform soup of all of them, and the greedy soup: members in order of the sum of
    clean and PGD-10 accuracy, each kept if the sum does not fall with it.
    """

    weighs: ClassVar[bool] = True
    quick: ClassVar[dict[str, Any]] = {**TwoEnds.quick, "strengths": (0.0,)}

    strengths: tuple[float, ...] = (0.0, 0.3, 1.0, 3.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.strengths or min(self.strengths) < 0 or len(set(self.strengths)) < len(self.strengths):
            raise ConfigError("strengths must be at least 0 and differ, and there must be one")
        for strength in self.strengths:
            self.member(strength)

    def member(self, strength: float) -> FineTune:
        """Strategy that trains one member."""
        own: dict[str, Any] = {name: getattr(self, name) for name in ("l2", "choose", "hold_l2", "head")}
        return LwF(strength=strength, **own, **self.training()) if strength else self.fine_tuning()

    @override
    def points(self) -> int:
        """Number of members, of the uniform soup, and of the smaller soups that a greedy search tries, about."""
        return 1 + 2 * len(self.strengths)

    @override
    def passes(self, task: Task) -> float:
        """Forecast: a training for each strength, and PGD-10 on val for each point."""
        looks = self.points() * validation_passes(task.val, robust=True)
        return sum(self.member(strength).passes(task) for strength in self.strengths) + looks

    @override
    def walk(self, front: Front, source: Checkpoint, task: Task, run: Run) -> None:
        start = self.robust_end(front, source, task, run)
        for strength in self.strengths:
            name = f"strength-{strength:g}"
            try:
                trained = trained_from(self.member(strength), front, start, source, task, name)
            except DivergedError as error:
                front.events.append(f"{name}: {error}")
                continue
            front.add("member", trained, strength=strength)
        members = sorted(front.found, key=_both, reverse=True)
        if len(members) == 1:
            return
        uniform = front.add("uniform soup", average([member.classifier for member in members]), members=len(members))
        kept, best = [members[0]], _both(members[0])
        for member in members[1:]:
            mixed = [one.classifier for one in (*kept, member)]
            whole = len(mixed) == len(members)  # the uniform soup, which is measured
            found = uniform if whole else front.add("greedy soup", average(mixed), members=len(mixed))
            if _both(found) >= best:
                kept, best = [*kept, member], _both(found)
        front.notes["greedy_soup"] = [str(member) for member in kept]


def _both(candidate: Candidate) -> float:
    return candidate.clean + candidate.robust


def average(classifiers: Sequence[Classifier]) -> Classifier:
    """Mean of weights and buffers, in float64; counters (of the batches that batch norm has seen) are the first one's."""
    states = [classifier.state_dict() for classifier in classifiers]
    mean = {
        name: torch.stack([state[name].double().cpu() for state in states]).mean(0).to(value)
        if value.is_floating_point()
        else value
        for name, value in states[0].items()
    }
    made = classifiers[0].copy()
    made.load_state_dict(mean, strict=True)
    return made
