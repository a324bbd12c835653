"""Judgement of a contender: train it and attack it on val, within the time left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from robust_transfer import tracking
from robust_transfer.attacks import parse_attack
from robust_transfer.checkpoint import Checkpoint, load_checkpoint
from robust_transfer.choosing.choice import Judged
from robust_transfer.choosing.clock import Clock
from robust_transfer.choosing.contenders import Contender
from robust_transfer.config import as_dict
from robust_transfer.cost import Cost
from robust_transfer.data import Task
from robust_transfer.data.split import BALANCED
from robust_transfer.evaluation import Evaluation, evaluate
from robust_transfer.evaluation.effort import effort
from robust_transfer.run import Run
from robust_transfer.statistics.intervals import Proportion
from robust_transfer.threat import Threat

ATTACK, FINAL = "quick", "strong"
MAKING, ATTACKING = "making", "attacking"
EASY = 60.0  # image passes that a suite takes of an image that it breaks, at most


@dataclass
class Judge:
    """Judge of contenders on the same val images at one ``threat``; their run folders go to ``folder``.

    ``cost`` is that of training and attacking all of them.
    """

    task: Task
    threat: Threat
    examples: int
    folder: Path
    run: Run
    clock: Clock
    cost: Cost = field(default_factory=Cost)

    def seconds(self, contender: Contender) -> float:
        """Forecast for training and attacking it."""
        attacking = effort(parse_attack(ATTACK)) * self.examples
        return self.clock.forecast(MAKING, contender.source, contender.passes(self.task)) + self.clock.forecast(
            ATTACKING, contender.source, attacking
        )

    def __call__(self, contender: Contender, source: Checkpoint) -> Judged:
        """Train it from ``source`` and attack it. Raises the strategy's errors."""
        began, out = self.clock.spent, self.folder / contender.folder
        with self._tracked(contender.folder):
            made = contender.strategy(source, self.task, run=self._inside(out))
        taken = self.clock.spent - began
        # what is there from an interrupted run took no time now
        fresh = made.card.cost.seconds <= taken + 1
        if fresh:
            self.clock.learn(MAKING, contender.source, contender.passes(self.task), taken)
        with self._tracked(contender.folder, ATTACK):
            found = self._attacked(made, out, ATTACK, contender.source)
        # features that the first look has computed are not computed again
        self.cost += replace(made.card.cost, passes=0.0) if contender.shares else made.card.cost
        return Judged(
            name=contender.name,
            source=contender.source,
            method=made.card.method,
            settings=as_dict(made.card.settings),
            folder=contender.folder,
            clean=found.clean_accuracy,
            robust=found.robust_accuracy,
            seconds=round(made.card.cost.seconds + found.seconds, 1),
            balanced=_balanced(found),
            by_balanced=self.task.weighting == BALANCED,
        )

    def final_passes(self, one: Judged) -> float:
        """Approximate image passes per image of :data:`FINAL`: surviving images take all."""
        stands = one.robust.value
        return stands * effort(parse_attack(FINAL)) + (1 - stands) * EASY

    def final(self, one: Judged, examples: int) -> Judged:
        """``one`` with its accuracies under :data:`FINAL` on ``examples`` of the same images."""
        out = self.folder / one.folder
        with self._tracked(one.folder, FINAL):
            found = self._attacked(self.made(one), out / FINAL, FINAL, one.source, examples)
        seconds = round(one.seconds + found.seconds, 1)
        return replace(
            one, final_clean=found.clean_accuracy, final_robust=found.robust_accuracy, seconds=seconds,
            balanced=_balanced(found),
        )  # fmt: skip

    def made(self, one: Judged) -> Checkpoint:
        """Checkpoint of what was judged."""
        return load_checkpoint(self.folder / one.folder)

    def _attacked(
        self, made: Checkpoint, out: Path, attack: str, source: str, examples: int | None = None
    ) -> Evaluation:
        began = self.clock.spent
        found = evaluate(
            made, self.task.val, threat=self.threat, attack=attack, examples=min(examples or self.examples, self.examples),
            run=self._inside(out), red_flag_examples=0, transfer_attack_examples=0,
        )  # fmt: skip
        if found.seconds <= self.clock.spent - began + 1:
            self.clock.learn(ATTACKING, source, found.passes, self.clock.spent - began)
        self.cost += Cost(
            passes=found.passes, adversarial_examples=round(found.clean_accuracy.value * len(found.outcomes))
        )
        return found

    @contextmanager
    def _tracked(self, folder: str, attack: str | None = None) -> Iterator[None]:
        """Trackers' run for a contender, with what each attack has found; TensorBoard's files outlive what was tried."""
        own = self.run.out
        title = f"{own.name if own is not None else 'choice'}-{folder}"
        board = own / "tensorboard" / folder if own is not None else None
        place = tracking.Place(title, board, self.folder / folder)
        with tracking.at(place), tracking.within(attack) if attack is not None else nullcontext():
            yield

    def _inside(self, out: Path) -> Run:
        return replace(self.run, out=out, resume=self.run.out is not None and self.run.resume, overwrite=False)


def _balanced(found: Evaluation) -> tuple[Proportion, Proportion] | None:
    clean, robust = found.balanced_clean_accuracy, found.balanced_robust_accuracy
    return None if clean is None or robust is None else (clean, robust)
